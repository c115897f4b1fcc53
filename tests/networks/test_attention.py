"""Attention can be seen and differentiated, and layers of tokens are offered as maps whose cells lie where the patches lie."""

from __future__ import annotations

import copy

import pytest
import torch
from support.architectures import architecture, open_softmax, tiny_transformer
from support.networks import classifier, drawn_images, seeded
from torch import nn
from torch.nn import functional as F

from explainers.networks.attention import attention_layers, attention_probabilities, blocks, record
from explainers.networks.graph import Call, Graph
from explainers.networks.torchvision_guard import torchvision

TRANSFORMERS = {"ViT (torchvision)": 3, "DeiT (timm, distilled)": 2}  # with the number of blocks


def vision_transformer(**more) -> nn.Module:
    network = torchvision.models.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5, **more)
    nn.init.normal_(network.heads.head.weight)
    return network


class OwnTransformer(nn.Module):
    """A vision transformer as people write it themselves: one block, its softmax written as a call, arranged as asked for."""

    def __init__(self, class_token="first", pooling="class", order="rows"):
        super().__init__()
        self.patches, self.qkv, self.out = nn.Conv2d(3, 12, 8, 8), nn.Linear(12, 36, bias=False), nn.Linear(12, 12)
        self.token, self.head = nn.Parameter(torch.randn(1, 1, 12)), nn.Linear(12, 5)
        self.class_token, self.pooling, self.order = class_token, pooling, order

    def forward(self, x):
        maps = self.patches(x)
        patches = (maps if self.order == "rows" else maps.transpose(2, 3)).flatten(2).transpose(1, 2)
        token = self.token.expand(x.shape[0], -1, -1)
        x = torch.cat({"first": (token, patches), "last": (patches, token), "none": (patches,)}[self.class_token], 1)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        weights = torch.softmax(q.unsqueeze(1) @ k.unsqueeze(1).transpose(-2, -1) / 12**0.5, dim=-1)
        x = x + self.out((weights @ v.unsqueeze(1)).squeeze(1))
        pooled = x.mean(1) if self.pooling == "mean" else x[:, 0] if self.class_token == "first" else x[:, -1]
        return self.head(pooled)


@pytest.fixture()
def batch():
    return drawn_images(3, seed=7)


def test_multi_head_attention_becomes_layers_that_compute_the_same(batch):
    module = seeded(vision_transformer).eval()
    network = classifier(copy.deepcopy(module))
    assert len(network.graph.named("attention")) == 2
    assert "self_attention.in_proj" in " ".join(str(node.target) for node in network.graph.nodes.values())
    x = batch.clone().requires_grad_(True)
    own, traced = module(x), network.logits(x)
    assert torch.allclose(own, traced, atol=1e-5)
    gradients = [torch.autograd.grad(value[:, 1].sum(), x)[0] for value in (own, traced)]
    assert torch.allclose(*gradients, atol=1e-5 * float(gradients[0].abs().max()))


class Attending(nn.Module):
    """One multi-head attention of a kind, on the rows of a picture."""

    def __init__(self, kind, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(24, 2, kdim=None if kind != "other keys" else 12, **options)
        self.short, self.head, self.kind = nn.Linear(24, 12), nn.Linear(24, 5), kind
        self.register_buffer("mask", torch.triu(torch.ones(16, 16), 1).bool())

    def forward(self, x):
        rows = x.reshape(-1, 16, 192)[..., :24]
        if not self.attention.batch_first:
            rows = rows.transpose(0, 1)
        key, mask = self.short(rows) if self.kind == "other keys" else rows, self.mask if self.kind == "mask" else None
        out, weights = self.attention(rows, key, rows, attn_mask=mask)
        out = out if self.attention.batch_first else out.transpose(0, 1)
        return self.head(out.mean(1)) + (weights[:, :5, 0] if self.kind == "weights" else 0)


@pytest.mark.parametrize(("kind", "options", "is_split"), [
    ("plain", {"batch_first": True}, True), ("plain", {}, True), ("plain", {"batch_first": True, "bias": False}, True),
    ("weights", {"batch_first": True}, True), ("mask", {"batch_first": True}, False), ("other keys", {"batch_first": True}, False),
    ("plain", {"batch_first": True, "add_bias_kv": True}, False), ("plain", {"batch_first": True, "add_zero_attn": True}, False)])
def test_only_attention_of_tokens_to_themselves_without_masks_is_split(kind, options, is_split, batch):
    module = seeded(lambda: Attending(kind, **options)).eval()
    network = classifier(copy.deepcopy(module))
    assert bool(network.graph.named("attention")) == is_split
    assert torch.allclose(network.logits(batch), module(batch), atol=1e-5)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_recorded_probabilities_are_probabilities_and_change_no_logit(name, batch):
    network, kept = architecture(name), []
    logits = network.logits(batch, record(attention_layers(network), kept))
    count = network.features.tokens.count
    assert torch.allclose(logits, network.logits(batch), atol=1e-5) and len(kept) == TRANSFORMERS[name]
    for probabilities in kept:
        assert probabilities.shape == (3, 2, count, count) and (probabilities >= 0).all()
        assert torch.allclose(probabilities.sum(-1), torch.ones(3, 2, count), atol=1e-5)


def test_recorded_probabilities_are_those_of_torchs_own_layer(batch):
    module = seeded(vision_transformer).eval()
    network, kept = classifier(copy.deepcopy(module)), []
    network.logits(batch, record(attention_layers(network), kept))
    tokens = torch.cat([module.class_token.expand(3, -1, -1), module._process_input(batch)], 1) + module.encoder.pos_embedding
    for layer, probabilities in zip(module.encoder.layers, kept, strict=True):
        own = layer.self_attention(*[layer.ln_1(tokens)] * 3, need_weights=True, average_attn_weights=False)[1]
        assert torch.allclose(own, probabilities, atol=1e-5)
        tokens = layer(tokens)


def test_without_gradients_of_the_image_the_probabilities_can_be_differentiated(image):
    network, kept = tiny_transformer(), []
    with torch.enable_grad():
        score = network.logits(image, record(attention_layers(network), kept))[0, 1]
        gradients = torch.autograd.grad(score, kept)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    with torch.no_grad():
        kept.clear()
        network.logits(image, record(attention_layers(network), kept))
    assert not any(probabilities.requires_grad for probabilities in kept)


@pytest.mark.parametrize("options", [
    {}, {"scale": 0.3}, {"is_causal": True}, {"attn_mask": torch.linspace(-2, 2, 42).reshape(6, 7)},
    {"attn_mask": (torch.arange(42) % 3 > 0).reshape(6, 7)}, {"enable_gqa": True}])
def test_the_open_attention_is_torchs_with_every_option(options):
    shared = 2 if "enable_gqa" in options else 4
    keys = 6 if "is_causal" in options else 7
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, heads, count, 5, generator=generator) for heads, count in ((4, 6), (shared, keys), (shared, keys)))
    expected = F.scaled_dot_product_attention(q, k, v, **options)
    call = Call("attention", "attention", None, lambda *inputs: None, options)
    kept = []
    assert torch.allclose(record(("attention",), kept)["attention"](call, q, k, v), expected, atol=1e-5)
    assert torch.equal(kept[0].detach(), attention_probabilities(call, q, k))


def test_options_given_by_place_are_seen_by_rules(image):
    class Placed(nn.Module):
        def forward(self, x):
            rows = x.reshape(-1, 1, 16, 192)
            return F.scaled_dot_product_attention(rows, rows, rows, None, 0.0, True).mean((1, 2))[:, :5]

    graph, seen = Graph(Placed()), []
    graph.run(image, {"attention": lambda call, *inputs: seen.append(call.options) or call.plain(*inputs)})
    assert seen == [{"attn_mask": None, "dropout_p": 0.0, "is_causal": True}]
    assert torch.equal(graph.run(image), Placed()(image))


# Tokens


@pytest.mark.parametrize(("class_token", "pooling", "order", "expected"), [
    ("first", "class", "rows", (1, (0,))), ("first", "mean", "rows", (1, tuple(range(17)))),
    ("none", "mean", "rows", (0, tuple(range(16)))), ("last", "class", "rows", None), ("first", "class", "columns", None)])
def test_tokens_are_recognised_by_what_they_do(class_token, pooling, order, expected, batch):
    network = classifier(seeded(lambda: OwnTransformer(class_token, pooling, order)))
    tokens = network.features.tokens
    assert (tokens and (tokens.prefix, tokens.read)) == expected
    assert bool(attention_layers(network)) == (expected is not None)
    if expected:
        kept = []
        assert tokens.grid == (4, 4)
        logits = network.logits(batch, record(attention_layers(network), kept))
        assert torch.allclose(logits, network.logits(batch), atol=1e-6) and len(kept) == 1
        assert torch.allclose(kept[0], open_softmax(kept[0].log()), atol=1e-6)


def test_distilled_and_register_tokens():
    timm = pytest.importorskip("timm")
    assert architecture("DeiT (timm, distilled)").features.tokens.prefix == 2
    assert architecture("DeiT (timm, distilled)").features.tokens.read == (0, 1)
    network = classifier(seeded(lambda: timm.create_model(
        "vit_base_patch14_reg4_dinov2", img_size=32, patch_size=8, depth=2, embed_dim=16, num_heads=2, num_classes=5)))
    assert (network.features.tokens.prefix, network.features.tokens.read) == (5, (0,))
    averaged = classifier(seeded(lambda: timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=16, num_heads=2, num_classes=5, global_pool="avg")))
    assert averaged.features.tokens.read == tuple(range(1, 17))


def test_a_transformer_with_equal_logits_reads_no_token():
    network = classifier(seeded(lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)))
    assert network.features.tokens.read == () and network.layers == () and network.features.default is None


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_blocks_are_cut_where_the_row_of_tokens_is_summed(name, image):
    network = architecture(name)
    cut = blocks(network)
    assert len(cut) == TRANSFORMERS[name] and cut[0][1] == cut[1][0]
    tokens = network.walk(image, stop=cut[0][0])
    for start, stop in cut:
        tokens = network.walk(tokens, start=start, stop=stop)
    assert torch.allclose(network.walk(tokens, start=cut[-1][1]), network.logits(image), atol=1e-6)
    assert sum(network.cost_fraction(*block) for block in cut) > 0.8


def test_attention_counts_its_multiplications():
    network = tiny_transformer()
    assert network.shapes[attention_layers(network)[0]].macs == 2 * 65 * 65 * 16


# Maps


@pytest.mark.parametrize("name", [*TRANSFORMERS, "Swin (torchvision)", "ConvNeXt", "plain (VGG)"])
def test_taking_and_putting_a_map_changes_nothing(name, batch):
    network = architecture(name)
    for layer in network.layers:
        value = network.walk(batch, stop=layer)
        maps = network.take_map(value, layer)
        assert maps.shape == (3, *network.features.sizes[layer]), layer
        assert torch.equal(network.put_map(value, layer, maps), value)
        doubled = network.put_map(value[:1], layer, 2 * maps)
        assert torch.equal(network.take_map(doubled, layer), 2 * maps)
        prefix = network.features.layout(layer).prefix
        assert not prefix or torch.equal(doubled[:, :prefix], value[:1, :prefix].expand(3, -1, -1))


@pytest.mark.parametrize(("name", "layer"), [
    ("ViT (torchvision)", "add"), ("DeiT (timm, distilled)", "add"), ("Swin (torchvision)", "features_0_2")])
def test_a_cell_of_the_map_lies_where_its_patch_lies(name, layer, image):
    network = architecture(name)
    _, height, width = network.features.sizes[layer]
    row, column, side = 2, 5, 32 // width
    changed = image.clone()
    changed[..., row * side:(row + 1) * side, column * side:(column + 1) * side] += 1
    before, after = (network.take_map(network.walk(x, stop=layer), layer)[0] for x in (image, changed))
    assert (before - after).abs().sum(0).gt(1e-4).nonzero().tolist() == [[row, column]]


def test_the_default_layer_of_a_vision_transformer_is_the_last_that_reaches_the_class_token(image):
    for name in TRANSFORMERS:
        network = architecture(name)
        value = network.walk(image, stop=network.features.default)
        maps = network.take_map(value, network.features.default).clone().requires_grad_(True)
        logits = network.walk(network.put_map(value, network.features.default, maps), start=network.features.default)
        assert torch.autograd.grad(logits[0, 0], maps)[0].abs().sum((0, 1)).gt(0).all()
        after = blocks(network)[-1][1]
        assert after not in network.layers and network.features.default == blocks(network)[-1][0]


def test_channels_are_recognised_as_last_even_where_there_are_as_many_as_rows():
    network = classifier(seeded(lambda: torchvision.models.SwinTransformer([2, 2], 16, [1, 1], [2, 2], [4, 4], num_classes=5)))
    first = next(name for name in network.layers if name != "features_0_0")
    assert network.features.sizes["features_0_0"] == network.features.sizes[first] == (16, 16, 16)
    assert [network.features.layout(name).kind for name in ("features_0_0", first)] == ["channels first", "channels last"]
    assert network.features.layout("permute_1").kind == "channels first"


@pytest.mark.parametrize("name", ["plain (VGG)", "residual (ResNet)", "dense (DenseNet)", "ConvNeXt"])
def test_networks_of_convolutions_have_no_tokens_and_maps_as_they_are(name):
    network = architecture(name)
    assert network.features.tokens is None and network.features.layouts == {} and not network.attends
    assert attention_layers(network) == () and blocks(network) == ()
