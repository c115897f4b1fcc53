"""Files of encoded CIFAR-10 pictures: every picture and label comes back, also from the folder of decoded ones."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from explainers.data import cifar10, pools
from explainers.errors import ExplainerError
from explainers.networks.embedded import CIFAR


def encoded(pictures: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pictures).save(buffer, "PNG")
    return buffer.getvalue()


def written(folder, name: str, pictures: np.ndarray, labels: list[int]):
    files = [encoded(picture) for picture in pictures]
    offsets = np.cumsum([0, *map(len, files)]).astype(np.int64)
    np.savez(folder / name, images=np.frombuffer(b"".join(files), np.uint8), offsets=offsets, labels=np.array(labels, np.uint8))
    return folder / name


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def test_every_picture_comes_back_with_its_label(tmp_path, pictures):
    images, labels = cifar10.read(written(tmp_path, "test.npz", pictures, [3, 0, 9, 9, 1]))
    assert np.array_equal(images, pictures.transpose(0, 3, 1, 2)) and labels.tolist() == [3, 0, 9, 9, 1]
    few, few_labels = cifar10.read(tmp_path / "test.npz", 2)
    assert np.array_equal(few, images[:2]) and few_labels.tolist() == [3, 0]


def test_grey_pictures_have_three_equal_channels(tmp_path, pictures):
    images, _ = cifar10.read(written(tmp_path, "test.npz", pictures[..., 0], [0] * 5))
    assert np.array_equal(images, np.repeat(pictures[..., :1], 3, 3).transpose(0, 3, 1, 2))


def test_pictures_of_another_size_are_refused(tmp_path, pictures):
    with pytest.raises(ValueError, match="picture 0 has 32 x 28 pixels"):
        cifar10.read(written(tmp_path, "test.npz", pictures[:, :28], [0] * 5))


def test_decoded_pictures_are_kept_and_read_again(tmp_path, pictures):
    file = written(tmp_path, "train.npz", pictures, [3, 0, 9, 9, 1])
    first = cifar10.read_once(file, tmp_path / "kept")
    kept = next((tmp_path / "kept").glob("*pictures.npy"))
    np.save(kept, 255 - np.load(kept))  # shows which of the two files the second call reads
    again = cifar10.read_once(file, tmp_path / "kept")
    assert np.array_equal(first[0], 255 - again[0]) and torch.equal(first[1], again[1])
    assert first[0].shape == again[0].shape == (5, 3, 32, 32)


def test_the_pool_takes_training_and_test_pictures_from_their_own_files(tmp_path, pictures):
    written(tmp_path, "train.npz", pictures, [1] * 5)
    written(tmp_path, "test.npz", pictures, [2] * 5)
    network = CIFAR["cifar_cnn"]
    assert pools.training_draws(network, 5, 1, None, tmp_path)[1].tolist() == [1] * 5
    images, labels = pools.held_out(network, 3, 2, tmp_path)
    assert labels.tolist() == [2] * 3 and images.dtype == torch.uint8 and images.shape == (3, 3, 32, 32)


@pytest.mark.parametrize("there", [True, False])
def test_without_the_pictures_the_folder_is_asked_for(tmp_path, there):
    with pytest.raises(ExplainerError, match=r"name a folder that holds its test\.npz"):
        pools.held_out(CIFAR["cifar_cnn"], 3, 2, tmp_path if there else None)
