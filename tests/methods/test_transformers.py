"""Methods on attention against closed forms, a naive walk through torchvision's vision transformer, and torchcam; maps of tokens."""

from __future__ import annotations

import copy

import pytest
import torch
from support.architectures import architecture, open_softmax, tiny_transformer
from support.networks import classifier, drawn_images, seeded
from torch import nn

import explainers as ex
from explainers.context import Context
from explainers.data.reference import ReferenceSet
from explainers.methods import iba
from explainers.networks.torchvision_guard import torchvision

METHODS = ["attention_rollout", "transformer_attribution", "legrad"]
LINE = 1e-4  # the largest relative error that rounding explains


def vision_transformer(blocks=3) -> nn.Module:
    network = torchvision.models.VisionTransformer(32, 8, blocks, 4, 24, 48, num_classes=5)
    nn.init.normal_(network.heads.head.weight)
    nn.init.normal_(network.class_token)
    return network


def relative_error(attribution, expected):
    assert attribution.numel() == expected.numel()
    return float((attribution.flatten() - expected.flatten()).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def module():
    return seeded(vision_transformer).eval()


@pytest.fixture(scope="module")
def network(module):
    return classifier(copy.deepcopy(module))


def naive(module, x):
    """The tokens after each block, and each block's probabilities (heads, T, T), of one image, by loops over heads."""
    tokens = torch.cat([module.class_token, module._process_input(x)], 1)[0] + module.encoder.pos_embedding[0]
    outputs, attention = [], []
    for block in module.encoder.layers:
        layer, normed = block.self_attention, block.ln_1(tokens)
        q, k, v = (normed @ layer.in_proj_weight.T + layer.in_proj_bias).split(24, dim=1)
        heads = [[part[:, 6 * h:6 * h + 6] for part in (q, k, v)] for h in range(4)]
        scores, values = zip(*[(a @ b.T / 6**0.5, c) for a, b, c in heads], strict=True)
        probabilities = open_softmax(torch.stack(scores))
        attention.append(probabilities)
        mixed = torch.cat([probabilities[h] @ values[h] for h in range(4)], 1)
        tokens = tokens + layer.out_proj(mixed)
        tokens = tokens + block.mlp(block.ln_2(tokens))
        outputs.append(tokens)
    return outputs, attention


def head(module, tokens):
    return module.heads(module.encoder.ln(tokens))


def test_rollout_equals_a_walk_by_hand(module, network, image):
    _, attention = naive(module, image)
    total = torch.eye(17)
    for probabilities in attention:
        total = (0.5 * probabilities.mean(0) + 0.5 * torch.eye(17)) @ total
    attribution = ex.explain(network, image, "attention_rollout", target=1)
    assert attribution.native.shape == (1, 4, 4) and relative_error(attribution.native, total[0, 1:].detach()) < LINE
    assert torch.equal(attribution.native, ex.explain(network, image, "attention_rollout", target=2).native)


@pytest.mark.parametrize(("fusion", "fuse"), [("max", torch.amax), ("min", torch.amin)])
def test_other_fusions_are_brought_back_to_rows_that_sum_to_1(fusion, fuse, module, network, image):
    _, attention = naive(module, image)
    total = torch.eye(17)
    for probabilities in attention:
        layer = fuse(probabilities, 0)
        total = (0.8 * layer / layer.sum(1, keepdim=True) + 0.2 * torch.eye(17)) @ total
    assert torch.allclose(total.sum(1), torch.ones(17), atol=1e-5)
    attribution = ex.explain(network, image, "attention_rollout", target=1, fusion=fusion, residual=0.2)
    assert relative_error(attribution.native, total[0, 1:].detach()) < LINE


def test_uniform_attention_gives_every_patch_the_same_in_closed_form(image):
    module = seeded(vision_transformer)
    for block in module.encoder.layers:
        nn.init.zeros_(block.self_attention.in_proj_weight[:24])  # all queries are 0, so that every token gets 1 / 17
        nn.init.zeros_(block.self_attention.in_proj_bias)
    attribution = ex.explain(classifier(module), image, "attention_rollout", target=1, residual=0.3).native
    assert torch.allclose(attribution, torch.full((1, 4, 4), (1 - 0.3**3) / 17), atol=1e-6)


def test_gradient_weighted_attention_equals_a_walk_by_hand(module, network, image):
    outputs, attention = naive(module, image)
    gradients = torch.autograd.grad(head(module, outputs[-1][:1])[0, 3], attention)
    relevance = torch.eye(17)
    for gradient, probabilities in zip(gradients, attention, strict=True):
        relevance = relevance + (gradient * probabilities).clamp(min=0).mean(0).detach() @ relevance
    attribution = ex.explain(network, image, "transformer_attribution", target=3)
    assert relative_error(attribution.native, relevance[0, 1:]) < LINE and (attribution.passes.forward,
                          attribution.passes.backward) == (1, 1)


@pytest.mark.parametrize("pooling", ["mean", "own"])
@pytest.mark.parametrize("last", [0, 2])
def test_legrad_equals_a_walk_by_hand(last, pooling, module, network, image):
    outputs, attention = naive(module, image)
    rows = []
    for tokens, probabilities in list(zip(outputs, attention, strict=True))[-last:]:
        pooled = tokens.mean(0, keepdim=True) if pooling == "mean" else tokens[:1]
        gradient = torch.autograd.grad(head(module, pooled)[0, 3], probabilities, retain_graph=True)[0]
        rows.append(gradient.clamp(min=0).mean((0, 1)))
    attribution = ex.explain(network, image, "legrad", target=3, last_blocks=last, pooling=pooling)
    assert relative_error(attribution.native, torch.stack(rows).mean(0)[1:]) < LINE


def test_legrad_equals_torchcam(module, network, image):
    methods = pytest.importorskip("torchcam.methods")
    if not hasattr(methods, "LeGrad"):
        pytest.skip("this torchcam has no LeGrad")
    with methods.LeGrad(copy.deepcopy(module), [f"encoder.layers.encoder_layer_{i}" for i in range(3)]) as extractor:
        scores = extractor.model(image.clone().requires_grad_(True))
        (expected,) = extractor(3, scores, normalized=False)
    assert relative_error(ex.explain(network, image, "legrad", target=3).native, expected) < LINE


def test_legrads_passes_are_the_blocks_it_uses(network, image):
    whole, last = (ex.explain(network, image, "legrad", target=3, last_blocks=last).passes for last in (0, 1))
    assert 1 <= whole.forward < 1.1 and 0.7 < whole.backward < 1.1 and last.forward < whole.forward
    assert last.backward == pytest.approx(whole.backward / 3)


class ClosedForm(nn.Module):
    """One block without norms in which the class token attends to patch j with a softmax of its score, and reads its value."""

    def __init__(self):
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 2, 8, 8, bias=False), nn.Parameter(torch.zeros(1, 1, 2))
        self.head = nn.Linear(2, 5, bias=False)

    def forward(self, x):
        patches = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), patches), 1)
        heads = x.unsqueeze(1)
        mixed = nn.functional.scaled_dot_product_attention(torch.ones_like(heads[..., :1]), heads[..., :1], heads, scale=1.0)
        return self.head((x + mixed.squeeze(1))[:, 0])


def test_gradient_weighted_attention_of_one_block_in_closed_form(image):
    module = seeded(ClosedForm)
    network = classifier(copy.deepcopy(module))
    patches = module.patches(image).flatten(2)[0].T
    tokens = torch.cat((torch.zeros(1, 2), patches))
    attention = tokens[:, 0].softmax(0)
    expected = (attention * (tokens @ module.head.weight[2])).clamp(min=0)[1:].detach()  # dlogit / dA_0j is the value of token j
    attribution = ex.explain(network, image, "transformer_attribution", target=2)
    assert relative_error(attribution.native, expected) < LINE
    rollout = ex.explain(network, image, "attention_rollout", target=2)
    assert relative_error(rollout.native, 0.5 * attention[1:].detach()) < LINE


def test_a_distilled_network_is_read_from_both_tokens(image):
    network = architecture("DeiT (timm, distilled)")
    for key in METHODS:
        attribution = ex.explain(network, image, key, target=1)
        assert attribution.native.shape == (1, 8, 8) and attribution.native.std() > 0
    rollout = ex.explain(network, image, "attention_rollout", target=1, residual=0.0).native
    assert 0.9 < float(rollout.sum()) < 1  # each of both rows sums to 1, with the two tokens themselves


@pytest.mark.parametrize("key", METHODS)
def test_networks_without_such_attention_say_why(key):
    lacks = ex.methods()[key].lacks
    assert "confined to windows" in lacks(architecture("Swin (torchvision)"))
    assert "no attention" in lacks(architecture("ConvNeXt")) and "cannot trace" in lacks(architecture("untraceable"))
    assert lacks(tiny_transformer()) is None and lacks(architecture("DeiT (timm, distilled)")) is None
    equal_logits = classifier(seeded(lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)))
    assert lacks(equal_logits) is not None


# Maps of tokens for methods that use a layer


def test_grad_cam_on_tokens_equals_pytorch_grad_cam(module, network, image):
    library = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    own = copy.deepcopy(module)
    cam = library.GradCAM(own, [own.encoder.layers[1]], reshape_transform=lambda value: value[:, 1:].mT.unflatten(2, (4, 4)))
    cam(image, [ClassifierOutputTarget(3)])
    weights = cam.activations_and_grads.gradients[0].mean((2, 3), keepdim=True)
    expected = (weights * cam.activations_and_grads.activations[0]).sum(1)
    attribution = ex.explain(network, image, "grad_cam", target=3, relu=False)
    assert relative_error(attribution.native, expected) < LINE


def test_grad_cam_with_channels_last_is_the_closed_form(image):
    network = architecture("Swin (torchvision)")
    value = network.walk(image, stop="add_1").requires_grad_(True)
    gradient = torch.autograd.grad(network.walk(value, start="add_1")[0, 3], value)[0]
    expected = (gradient.mean((1, 2)) * value).sum(-1)
    attribution = ex.explain(network, image, "grad_cam", target=3, relu=False, layer="add_1")
    assert relative_error(attribution.native, expected.detach()) < LINE


@pytest.mark.parametrize("name", ["ViT (torchvision)", "DeiT (timm, distilled)", "Swin (torchvision)"])
def test_the_bottleneck_lets_the_image_through_the_map_alone(name, image):
    network = architecture(name)
    images = drawn_images(6, seed=5)
    reference = ReferenceSet("six", "six", len(images), lambda a, b: images[a:b])
    node = iba.bottleneck_layer(network, "auto")
    logits = []
    for x in (image, image.flip(-1)):
        context = Context(network, reference=reference)
        signal, _ = iba.feature_signal(network, x, node, 6, context)
        assert signal.value.shape[1:] == network.features.sizes[node] and signal.mean.shape == signal.value.shape
        logits.append(network.walk(network.put_map(signal.around, node, signal.mean), start=node))
        prefix = network.features.layout(node).prefix
        exact = network.walk(network.put_map(network.walk(x, stop=node), node, signal.value), start=node)
        assert torch.allclose(exact, network.logits(x), atol=1e-5) and prefix == {"V": 1, "D": 2, "S": 0}[name[0]]
    assert torch.equal(*logits)


class OnePatch(nn.Module):
    """A transformer whose class token attends to all patches alike and is read for the brightness of the patches beside the class."""

    def __init__(self):
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.zeros(1, 1, 8))
        self.norm, self.qkv, self.head = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 5)
        self.position = nn.Parameter(torch.zeros(1, 65, 8))

    def forward(self, x):
        patches = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), patches), 1) + self.position
        q, k, v = self.qkv(x).unsqueeze(1).chunk(3, dim=-1)
        return self.head((x + nn.functional.scaled_dot_product_attention(q, k, v).squeeze(1))[:, 0])


@pytest.mark.parametrize("key", ["iba", "input_iba"])
def test_the_bottleneck_on_tokens_finds_a_planted_patch(key):
    module = seeded(OnePatch)
    with torch.no_grad():
        module.qkv.weight[:16] = 0
        module.qkv.bias[:16] = 0
        module.head.weight[2] = 4 * module.qkv.weight[16:].sign().sum(0)
    network = classifier(module)
    x = drawn_images(1, seed=8) * 0.05
    x[..., 8:12, 20:24] = 3 * module.patches.weight.sum(0).sign()
    kept = ex.explain(network, x, key, target=int(network.predict(x).argmax()), **ex.methods()[key].cheap)
    bits = (kept.native if key == "iba" else kept.extras["feature_map"]).reshape(8, 8)
    assert divmod(int(bits.argmax()), 8) == (2, 5)
