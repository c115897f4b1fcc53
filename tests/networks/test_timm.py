"""timm's networks: traced into torch's own layers, preprocessed as timm does, with a person's checkpoint."""

from __future__ import annotations

import importlib
import json
import urllib.error

import pytest
import safetensors.torch
import torch
from support.networks import drawn_images, seeded
from torch import nn

import explainers as ex
from explainers.networks import imagenet, loading, timm_models
from explainers.networks.graph import Graph
from explainers.networks.plain_layers import make_plain

timm_models._timm()  # imports timm after torchvision has come through its guard

# architecture, side of its input, ReLUs that its forward calls, ReLU6s, and whether nothing but affine layers is besides
NETWORKS = {
    "resnet50d": (64, 51, 0, True), "tf_efficientnet_lite0": (65, 0, 33, True), "mobilenetv3_small_050": (64, 14, 0, False),
    "regnetx_002": (64, 40, 0, True), "convnext_atto": (64, 0, 0, False), "vit_tiny_patch16_224": (224, 0, 0, False),
    "densenet121": (64, 121, 0, True), "vgg11": (224, 10, 0, True), "nf_resnet26": (64, 25, 0, True),
}


def built(name: str, classes: int = 5) -> nn.Module:
    return seeded(lambda: timm_models.build(f"timm/{name}", classes)).eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_computes_what_the_network_does_and_shows_each_relu(name):
    side, relus, relu6s, piecewise_linear = NETWORKS[name]
    module, images = built(name), drawn_images(2, 1, side)
    graph = Graph(module, torch.zeros(1, 3, side, side))
    with torch.no_grad():
        expected = module(images)
    assert torch.allclose(graph.run(images), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert (len(graph.named("relu")), len(graph.named("relu6"))) == (relus, relu6s)
    assert (graph.nonlinear_layers() == ()) == piecewise_linear


def test_a_subclass_that_computes_more_is_not_taken_for_its_parent():
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    class Renamed(nn.Conv2d):
        pass

    plain = make_plain(nn.Sequential(Doubled(3, 4, 3), Renamed(4, 4, 3)), torch.zeros(1, 3, 9, 9))
    assert [type(layer) for layer in plain] == [Doubled, nn.Conv2d]


def test_a_norm_with_an_activation_is_split():
    from timm.layers import BatchNormAct2d

    norm = seeded(lambda: BatchNormAct2d(4)).eval()
    x = drawn_images(2, 0, 5, 4)
    expected = norm(x)
    plain = make_plain(nn.Sequential(norm), x)
    assert [type(part) for part in plain[0]] == [nn.BatchNorm2d, nn.Identity, nn.ReLU]
    assert torch.equal(plain(x), expected)


@pytest.mark.parametrize(("kind", "options"), [("Conv2dSame", (3, 3, 3, 2)), ("MaxPool2dSame", (3, 2)), ("AvgPool2dSame", (3, 2))])
@pytest.mark.parametrize("side", [8, 9])
def test_padding_by_size_is_made_a_layer(kind, options, side):
    module = importlib.import_module("timm.layers.pool2d_same" if "Pool" in kind else "timm.layers.conv2d_same")
    layer = seeded(lambda: getattr(module, kind)(*options))
    x = drawn_images(1, 0, side)
    expected = layer(x)
    plain = make_plain(nn.Sequential(layer), x)
    assert type(plain[0][-1]).__module__.startswith("torch.nn") and torch.allclose(plain(x), expected, atol=1e-6)


def test_padding_of_a_kernel_that_is_not_square():
    from timm.layers.conv2d_same import Conv2dSame

    layer = seeded(lambda: Conv2dSame(3, 3, (3, 5), (2, 1)))
    x = drawn_images(1, 0, 8)
    expected = layer(x)
    plain = make_plain(nn.Sequential(layer), x)
    assert plain[0][0].padding == (2, 2, 0, 1) and torch.allclose(plain(x), expected, atol=1e-6)


class Twice(nn.Module):
    """One layer that pads by the size of its input, under two names."""

    def __init__(self, second_side: int):
        super().__init__()
        from timm.layers.conv2d_same import Conv2dSame

        self.first, self.second_side = seeded(lambda: Conv2dSame(3, 3, 3, 2)), second_side
        self.second = self.first

    def forward(self, x):
        side = self.second_side
        return self.first(x).mean((2, 3)) + self.second(x[..., :side, :side]).mean((2, 3))


@pytest.mark.parametrize("side", [8, 7])
def test_a_layer_that_is_called_twice_is_made_plain_where_both_inputs_have_one_size(side):
    module, x = Twice(side), drawn_images(1, 0, 8)
    expected = module(x)
    plain = make_plain(module, x)
    assert plain.first is plain.second and isinstance(plain.first, nn.Sequential) == (side == 8)
    assert torch.allclose(plain(x), expected, atol=1e-6)


def test_preprocessing_is_timms_own():
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    image = Image.effect_noise((300, 200), 80).convert("RGB")
    for name in ("resnet50d", "mobilenetv3_small_050"):
        config = timm_models._config(f"timm/{name}").to_dict()
        theirs = create_transform(**resolve_data_config({}, pretrained_cfg=config))(image)[None]
        assert torch.allclose(timm_models.preprocessing(f"timm/{name}").tensor(image), theirs, atol=1e-5), name


def test_networks_without_a_classifier_are_left_out():
    from timm.models import get_pretrained_cfg, list_models

    headless = {timm_models.PREFIX + name for name in list_models() if (config := get_pretrained_cfg(name)) and not config.classifier}
    assert headless and not headless & set(timm_models.architectures())
    assert not timm_models.is_published("timm/aimv2_1b_patch14_224") and timm_models.is_published("timm/resnet50d")


def test_classes_are_named_as_the_published_weights_name_them():
    assert timm_models.categories("timm/resnet50d", 1000) == imagenet.categories()
    assert timm_models.categories("timm/mixer_b16_224.goog_in21k", 21843)[:3] == ("organism", "benthos", "heterotroph")
    assert timm_models.categories("timm/mixer_b16_224.goog_in21k", 3) == ("class 0", "class 1", "class 2")


def test_a_fit_other_than_a_crop_is_noted():
    assert timm_models.notes("timm/resnet50d") == ()
    assert 'fitted by "stretch", not by "crop"' in timm_models.notes("timm/coat_lite_medium_384.in1k")[0]


@pytest.fixture(scope="module")
def checkpoint():
    return safetensors.torch.save(built("test_resnet", 4).state_dict())


def test_a_checkpoint_of_an_architecture(checkpoint):
    network = ex.load_model("timm/test_resnet", weights=checkpoint, device="cpu")
    assert network.categories == tuple(f"class {i}" for i in range(4)) and network.training_data == ""
    x = drawn_images(2, 0, network.input_size[0])
    with torch.no_grad():
        assert torch.allclose(network.logits(x), built("test_resnet", 4)(x), atol=1e-5)


def test_a_card_names_an_architecture_and_the_rest_is_timms(checkpoint, tmp_path, monkeypatch):
    (tmp_path / "mine.safetensors").write_bytes(checkpoint)
    card = {"architecture": "timm/test_resnet", "categories": list("abcd"), "mean": [0, 0, 0]}
    (tmp_path / "mine.json").write_text(json.dumps(card))
    monkeypatch.setenv("EXPLORER_MODELS", str(tmp_path))
    network = ex.load_model("mine", device="cpu")
    usual = timm_models.preprocessing("timm/test_resnet")
    assert network.categories == tuple("abcd") and network.preprocessing.mean == (0, 0, 0)
    assert (network.preprocessing.crop, network.preprocessing.std) == (usual.crop, usual.std)


def test_weights_of_another_architecture_are_one_sentence(checkpoint):
    with pytest.raises(ex.ExplainerError, match="do not fit timm/resnet18|another architecture"):
        ex.load_model("timm/resnet18", weights=checkpoint, device="cpu")


@pytest.mark.parametrize(("name", "says"), [
    ("timm/nonsense", "timm has no classifier 'nonsense'"),
    ("timm/hf-hub:someone/something", "timm has no classifier"),
    ("timm/resnet50d", "resnet50d are not on this machine and could not be downloaded .*no route.*checkpoint file"),
])
def test_what_cannot_be_had_is_one_sentence(name, says, monkeypatch):
    def offline(*args, **options):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(timm_models, "is_downloaded", lambda name: False)
    monkeypatch.setattr(timm_models.urllib.request, "urlopen", offline)
    with pytest.raises(ex.ExplainerError, match=says) as caught:
        ex.load_model(name, device="cpu")
    assert "\n" not in str(caught.value)


def test_the_search_finds_both_libraries():
    names = loading.architectures()
    assert "resnet34" in names and "timm/resnet50d" in names and len(names) == len(set(names)) > 1000
    assert loading.public_entry("timm/resnet50d").training_data == "photographs"
