"""AttnLRP: relevance propagated layer by layer through torchvision's vision transformer, closed forms, zennit's gamma rule."""

from __future__ import annotations

import copy

import explainers.networks.torchvision_guard  # noqa: F401  first, because zennit imports torchvision, which may need it  # isort: skip
import pytest
import torch
from support import zennit_maps
from support.architectures import architecture, open_softmax
from support.networks import classifier, drawn_images, seeded
from torch import nn
from torch.nn import functional as F
from zennit.composites import LayerMapComposite
from zennit.rules import Gamma

import explainers as ex
from explainers.context import Context
from explainers.methods import attn_lrp
from explainers.networks.embedded import EMBEDDED, load_weights
from explainers.networks.torchvision_guard import torchvision
from explainers.target import Target

LINE = 1e-4  # the largest relative error that rounding explains
GAMMAS = [(0.0, 0.0), (0.25, 0.05), (100.0, 1.0)]  # of the patches, of dense layers


def relative_error(attribution, expected):
    assert attribution.numel() == expected.numel()
    return float((attribution.flatten() - expected.flatten()).abs().max() / expected.abs().max())


def vision_transformer() -> nn.Module:
    """torchvision's, of two blocks with four heads; every bias has a value."""
    network = torchvision.models.VisionTransformer(32, 8, 2, 4, 24, 48, num_classes=5)
    for name, parameter in network.named_parameters():
        if name.endswith("bias") or name in {"heads.head.weight", "class_token"}:
            nn.init.normal_(parameter, std=1.0 if "head" in name or "token" in name else 0.3)
    return network


@pytest.fixture(scope="module")
def module():
    return seeded(vision_transformer).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def network(module):
    return classifier(copy.deepcopy(module))


def explained(network, x, target, **settings):
    """The method's map of a network that lacks attention, too, so that the rules can be compared there with those of others."""
    params = attn_lrp.METHOD.settings(**settings)
    return attn_lrp.METHOD.attribute(network, x, Target.of(target), params, Context(network)).native


class Propagation:
    """The rules in the form that the paper gives them, on relevance itself, in double precision and layer by layer.

    Each layer runs forward at once and returns the function that hands its output's relevance back to its input.
    """

    def __init__(self, gamma, through_weights):
        self.gamma, self.through_weights = gamma, through_weights

    @staticmethod
    def shares(contributions, total, relevance):
        """Relevance (out,) or (T, out), given back in proportion to contributions (..., in, out) to the totals (..., out)."""
        return (contributions * (relevance / total).unsqueeze(-2)).sum(-1)

    def dense(self, x, weight, bias, gamma):
        """x: (T, in). weight: (out, in). bias: (out,)."""
        single = x.unsqueeze(-1) * weight.T
        z = single.sum(-2) + bias

        def back(relevance):
            counted = torch.where(single * z.unsqueeze(-2) > 0, (1 + gamma) * single, single)
            counted_bias = torch.where(bias * z > 0, (1 + gamma) * bias, bias)
            return self.shares(counted, counted.sum(-2) + counted_bias, relevance)
        return z, back

    def norm(self, x, layer):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight
        value = scaled + layer.bias
        width = x.shape[-1]
        mixing = torch.eye(width, dtype=x.dtype) - 1 / width  # takes the mean away

        def back(relevance):
            identity = relevance * scaled / value  # the bias absorbs its share
            return self.shares(x.unsqueeze(-1) * mixing, centred, identity)
        return value, back

    def attention(self, q, k, v):
        """One head; q, k, v: (T, d)."""
        single = q.unsqueeze(1) * k.unsqueeze(0) / q.shape[-1]**0.5  # (T, T, d)
        scores = single.sum(-1)
        probabilities = open_softmax(scores)
        mixed = probabilities @ v
        products = probabilities.unsqueeze(-1) * v.unsqueeze(0)  # (T, T, d): what value i adds to the output j

        def back(relevance):
            each = products * (relevance / mixed).unsqueeze(1)
            if not self.through_weights:
                return torch.zeros_like(q), torch.zeros_like(k), each.sum(0)
            half = each / 2
            of_probabilities = half.sum(-1)
            of_scores = scores * (of_probabilities - probabilities * of_probabilities.sum(-1, keepdim=True))
            of_factors = single / scores.unsqueeze(-1) * of_scores.unsqueeze(-1) / 2
            return of_factors.sum(1), of_factors.sum(0), half.sum(0)
        return mixed, back

    def self_attention(self, x, layer):
        joint, joint_back = self.dense(x, layer.in_proj_weight, layer.in_proj_bias, 0)
        width, heads = x.shape[-1], layer.num_heads
        q, k, v = (part.split(width // heads, -1) for part in joint.split(width, -1))
        mixed, backs = zip(*(self.attention(*head) for head in zip(q, k, v, strict=True)), strict=True)
        out, out_back = self.dense(torch.cat(mixed, -1), layer.out_proj.weight, layer.out_proj.bias, 0)

        def back(relevance):
            of_heads = [of(part) for of, part in zip(backs, out_back(relevance).split(width // heads, -1), strict=True)]
            return joint_back(torch.cat([torch.cat(parts, -1) for parts in zip(*of_heads, strict=True)], -1))
        return out, back

    def residual(self, x, *steps):
        """x + what the steps make of it."""
        value, backs = x, []
        for step, *arguments in steps:
            value, back = step(value, *arguments)
            backs.append(back)

        def back(relevance):
            through, past = relevance * value / (x + value), relevance * x / (x + value)
            for step_back in reversed(backs):
                through = step_back(through)
            return past + through
        return x + value, back

    def gelu(self, x):
        return F.gelu(x), lambda relevance: relevance

    def relevance(self, module, x, target, gamma_patches):
        """The relevance (C, H, W) of an image (1, C, H, W)."""
        module, x = copy.deepcopy(module).double(), x.double()
        patches = F.unfold(x, 8, stride=8)[0].T  # (patches, values)
        weight = module.conv_proj.weight.flatten(1)
        tokens, backs = self.dense(patches, weight, module.conv_proj.bias, gamma_patches)
        before = torch.cat([module.class_token[0], tokens])
        positioned = before + module.encoder.pos_embedding[0]
        value, blocks = positioned, []
        for block in module.encoder.layers:
            first, second = block.mlp[0], block.mlp[3]
            for steps in (((self.norm, block.ln_1), (self.self_attention, block.self_attention)),
                          ((self.norm, block.ln_2), (self.dense, first.weight, first.bias, self.gamma), (self.gelu,),
                           (self.dense, second.weight, second.bias, self.gamma))):
                value, back = self.residual(value, *steps)
                blocks.append(back)
        normed, norm_back = self.norm(value, module.encoder.ln)
        head = module.heads.head
        logits, head_back = self.dense(normed[:1], head.weight, head.bias, self.gamma)
        relevance = torch.zeros_like(normed)
        relevance[:1] = head_back(F.one_hot(torch.tensor([target]), 5) * logits)
        relevance = norm_back(relevance)
        for back in reversed(blocks):
            relevance = back(relevance)
        of_patches = backs((relevance * before / positioned)[1:])
        return F.fold(of_patches.T.unsqueeze(0), (32, 32), 8, stride=8)[0]


@pytest.mark.parametrize("through_weights", [True, False])
@pytest.mark.parametrize("gammas", GAMMAS)
def test_it_equals_relevance_propagated_layer_by_layer(gammas, through_weights, module, network, image):
    expected = Propagation(gammas[1], through_weights).relevance(module, image, 3, gammas[0])
    attribution = ex.explain(network, image, "attn_lrp", target=3, gamma_patches=gammas[0], gamma_dense=gammas[1],
                             attention_weights=through_weights)
    assert attribution.native.shape == (3, 32, 32) and relative_error(attribution.native, expected) < LINE
    assert (attribution.passes.forward, attribution.passes.backward) == (1, 1)
    pixels, rest = attribution.extras["parts"]
    assert pixels == pytest.approx(float(expected.sum()), abs=LINE * float(expected.abs().sum()))
    assert pixels + rest == pytest.approx(float(network.logits(image)[0, 3]), rel=1e-5)


class Scored(nn.Module):
    """The mean of the patches' tokens, weighted with the softmax of a score of each: one attention layer and nothing else.

    written: how the network writes attention: as calls of its own, or as torch's function for attention.
    """

    def __init__(self, written):
        super().__init__()
        self.patches, self.score = nn.Conv2d(3, 4, 8, 8, bias=False), nn.Linear(4, 1, bias=False)
        self.head = nn.Linear(4, 5, bias=False)
        self.query = nn.Parameter(torch.ones(1, 1, 1, 1))
        self.written = written

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2).unsqueeze(1)  # (N, 1, 16, 4)
        if self.written == "function":
            query = self.query.expand(x.shape[0], -1, -1, -1)
            return self.head(F.scaled_dot_product_attention(query, self.score(tokens), tokens, scale=1.0).flatten(1))
        scores = self.score(tokens).transpose(2, 3)
        weights = scores.softmax(-1) if self.written == "method" else torch.softmax(scores, dim=-1)
        mixed = torch.matmul(weights, tokens) if self.written == "method" else weights @ tokens
        return self.head(mixed.flatten(1))


def of_patches(native):
    """The sums over the patches of a map (3, 32, 32): (16,)."""
    return native.sum(0).unflatten(0, (4, 8)).unflatten(2, (4, 8)).sum((1, 3)).flatten()


@pytest.mark.parametrize("written", ["method", "operator"])
def test_the_softmax_rule_in_closed_form(written, image):
    module = seeded(lambda: Scored(written)).eval().requires_grad_(False)
    network = classifier(copy.deepcopy(module))
    tokens = module.patches(image).flatten(2)[0].T  # (16, 4)
    scores = module.score(tokens)[:, 0]
    weights, worth = scores.softmax(0), tokens @ module.head.weight[2]  # what each token would be for the logit alone
    of_weights = weights * worth / 2
    of_scores = scores * (of_weights - weights * of_weights.sum())
    attribution = ex.explain(network, image, "attn_lrp", target=2, gamma_patches=0.0, gamma_dense=0.0)
    assert relative_error(of_patches(attribution.native), weights * worth / 2 + of_scores) < LINE
    values = ex.explain(network, image, "attn_lrp", target=2, gamma_patches=0.0, gamma_dense=0.0, attention_weights=False)
    assert relative_error(of_patches(values.native), weights * worth) < LINE


def test_a_query_that_is_the_same_for_all_images_shares_half_of_the_scores(image):
    """Half of the scores' relevance goes to the query, which is a weight of the network here, and so to no pixel."""
    module = seeded(lambda: Scored("function")).eval().requires_grad_(False)
    tokens = module.patches(image).flatten(2)[0].T
    scores = module.score(tokens)[:, 0]
    weights, worth = scores.softmax(0), tokens @ module.head.weight[2]
    of_scores = scores * (weights * worth / 2 - weights * (weights * worth / 2).sum())
    attribution = explained(classifier(copy.deepcopy(module)), image, 2, gamma_patches=0.0, gamma_dense=0.0)
    assert relative_error(of_patches(attribution), weights * worth / 2 + of_scores / 2) < LINE


@pytest.mark.parametrize("gammas", GAMMAS)
def test_without_biases_and_through_values_alone_the_pixels_have_the_whole_logit(gammas, image):
    module = seeded(vision_transformer)
    for name, parameter in module.named_parameters():
        if name.endswith("bias") or name in {"class_token", "encoder.pos_embedding"}:
            nn.init.zeros_(parameter)
    network = classifier(module)
    logit = float(network.logits(image)[0, 3])
    settings = {"gamma_patches": gammas[0], "gamma_dense": gammas[1]}
    whole = ex.explain(network, image, "attn_lrp", target=3, attention_weights=False, **settings)
    assert whole.extras["parts"][0] == pytest.approx(logit, rel=LINE)
    assert whole.extras["parts"][1] == pytest.approx(0, abs=LINE * abs(logit))
    through_softmax = ex.explain(network, image, "attn_lrp", target=3, **settings)  # which absorbs relevance
    assert abs(through_softmax.extras["parts"][1]) > 0.01 * abs(logit)


def scene(network):
    return network.preprocess(next(sample for sample in ex.samples() if sample.kind == network.training_data).load())


@pytest.mark.parametrize("name", ["scenes_vgg", "scenes_resnet"])
def test_in_dense_layers_convolutions_and_relu_it_is_lrp(name):
    network = ex.load_model(name)
    x = scene(network)
    lrp = ex.explain(network, x, "lrp_epsilon", target=(4, 0), epsilon=0.0).native
    assert relative_error(explained(network, x, (4, 0), gamma_patches=0.0, gamma_dense=0.0), lrp) < LINE


@pytest.mark.parametrize("gammas", GAMMAS[1:])
def test_the_gamma_rule_equals_zennits(gammas):
    network, module = ex.load_model("scenes_vgg"), EMBEDDED["scenes_vgg"].build()
    module.load_state_dict(load_weights("scenes_vgg"))
    x = scene(network)
    composite = LayerMapComposite([*zennit_maps.sums(), (nn.Conv2d, Gamma(gammas[0], stabilizer=1e-12)),
                                   (nn.Linear, Gamma(gammas[1], stabilizer=1e-12))], **zennit_maps.merge())
    theirs = zennit_maps.relevance(module.eval().requires_grad_(False), x, 4, composite)
    assert relative_error(explained(network, x, 4, gamma_patches=gammas[0], gamma_dense=gammas[1]), theirs) < LINE


class Gated(nn.Module):
    """A softmax over tokens, and a product of two dense layers of the image, without biases."""

    def __init__(self):
        super().__init__()
        self.patches, self.gate, self.up, self.head = (
            nn.Conv2d(3, 4, 8, 8, bias=False), nn.Linear(64, 6, bias=False), nn.Linear(64, 6, bias=False), nn.Linear(6, 5, bias=False))

    def forward(self, x):
        tokens = self.patches(x).flatten(1)
        return self.head(F.silu(self.gate(tokens)) * self.up(tokens))


def test_a_gate_and_what_it_opens_get_half_each(image):
    network = classifier(seeded(Gated))
    logit = float(network.logits(image)[0, 1])
    assert attn_lrp.products(network.graph) == ("mul",) and attn_lrp.projections(network.graph) == set()
    for settings in ({}, {"gamma_patches": 0.0, "gamma_dense": 0.0}):
        assert float(explained(network, image, 1, **settings).sum()) == pytest.approx(logit, rel=LINE)
    assert float((network.gradient(image, 1) * image).sum()) != pytest.approx(logit, rel=0.5)


def test_the_dense_layers_next_to_attention_keep_the_epsilon_rule():
    for name, suffixes in (("ViT (torchvision)", ("in_proj", "out_proj")), ("DeiT (timm, distilled)", ("qkv", "proj"))):
        graph = architecture(name).graph
        apart = attn_lrp.projections(graph)
        assert len(apart) == 2 * len(graph.named("attention")) and all(node.endswith(suffixes) for node in apart)
    assert attn_lrp.projections(ex.load_model("scenes_vgg").graph) == set()


def test_the_network_keeps_its_kinds(network, image):
    before = dict(network.graph.kinds)
    ex.explain(network, image, "attn_lrp", target=1)
    assert network.graph.kinds == before and "projection" not in before.values()


def test_the_rules_change_no_logit(network, image):
    view = attn_lrp.with_own_kinds(network)
    for weights in (True, False):
        logits = view.logits(image, attn_lrp.rules(view, attn_lrp.METHOD.settings(attention_weights=weights)))
        assert torch.allclose(logits, network.logits(image), atol=1e-5)


def test_timms_attention_in_windows_is_explained(image):
    timm = pytest.importorskip("timm")
    network = classifier(seeded(lambda: timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, patch_size=2, window_size=4, depths=(2, 2), embed_dim=16, num_heads=(2, 2),
        num_classes=5)))
    assert attn_lrp.METHOD.lacks(network) is None
    assert len(attn_lrp.products(network.graph)) + 2 * len(network.graph.named("attention")) == 8  # timm decides which of the two
    attribution = ex.explain(network, image, "attn_lrp", target=1)
    assert attribution.native.std() > 0 and torch.isfinite(attribution.native).all()


def test_other_networks_say_why():
    lacks = attn_lrp.METHOD.lacks
    assert lacks(architecture("ViT (torchvision)")) is None and lacks(architecture("DeiT (timm, distilled)")) is None
    assert "has none for shifted_window_attention" in lacks(architecture("Swin (torchvision)"))
    assert "cannot trace" in lacks(architecture("untraceable"))
    for name in ("plain (VGG)", "residual (ResNet)", "ConvNeXt", "squeeze-excite (EfficientNet)", "one dense layer"):
        assert "needs attention, and this network has none" in lacks(architecture(name))


class Planted(nn.Module):
    """A transformer whose class token attends to all patches alike and reads how bright each is."""

    def __init__(self):
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 8, 4, 4, bias=False), nn.Parameter(torch.zeros(1, 1, 8))
        self.qkv, self.head = nn.Linear(8, 24, bias=False), nn.Linear(8, 5, bias=False)

    def forward(self, x):
        patches = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), patches), 1)
        q, k, v = self.qkv(x).unsqueeze(1).chunk(3, dim=-1)
        return self.head((x + F.scaled_dot_product_attention(q, k, v).squeeze(1))[:, 0])


def test_a_planted_patch_has_most_of_the_relevance():
    module = seeded(Planted)
    with torch.no_grad():
        module.qkv.weight[:16] = 0
    x = drawn_images(1, seed=8) * 0.05
    x[..., 8:12, 20:24] = 3 * module.patches.weight.detach().sum(0).sign()
    network = classifier(module)
    native = ex.explain(network, x, "attn_lrp", target=int(network.predict(x).argmax())).native.sum(0)
    patches = native.unflatten(0, (8, 4)).unflatten(2, (8, 4)).sum((1, 3))
    assert divmod(int(patches.argmax()), 8) == (2, 5) and patches[2, 5] > 0.5 * patches.abs().sum()
