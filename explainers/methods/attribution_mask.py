r"""Attribution mask (Lee, Chang 2021, section 3.1): a map becomes a mask on the image, and the masked image is explained again.

From the image x and a mask P of ones, each iteration computes a gradient method's map A of the masked image x P, scales each
colour channel of A to [0, 1] by its own minimum and maximum (equation 11), and multiplies the mask by the result:

    P <- P * (A - min A) / (max A - min A),   and by 0 in a channel where A is constant.

An attribution of 0 becomes -min / (max - min), a grey, and not 0: only what speaks most against the class is removed.

Where paper and code differ. The paper's formula multiplies masks that are already cumulative; the authors' code keeps one
product, and so does this. The sign and the input of a base method are taken of the masked image, as in the code, and not of the
original, as in equation 13; the signs agree while P > 0.

In a network without biases (section 2.2, "no implicit bias") f(a x) = a f(x) for a > 0, so dimming the whole image does not
change the ranking of the classes. With biases, the dimmed image counts less and less against them, and sooner or later the
class is lost (section 5.5). The map misleads where the label leaks in: see ``limits`` below.

In such a network the attributions of gradient x input, Integrated Gradients and DeepLIFT sum to the logit (equation 8 and
definition 1). With biases gradient x input leaves out what they add, and the other two what the logit already is for the mean
colour alone. The extras hold both numbers at every iteration, and a flag states the difference at the first.

Another network, the ``reader``, can read the masked images (section 5.4, table 4), which tells a mask that shows what the class
looks like from one that shows what its own network responds to. The paper trains such a network on masked images; here it has
seen whole ones only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainers.context import Context, RunOptions
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.errors import UnsupportedError
from explainers.methods import deep_lift, integrated_gradients
from explainers.methods.gradients import PRODUCTS
from explainers.methods.guided import GUIDED
from explainers.methods.guided import METHODS as GUIDED_METHODS
from explainers.networks.classifier import Classifier
from explainers.networks.graph import PLAIN, Rule
from explainers.parameters import choice, integer
from explainers.passes import Passes
from explainers.progress import Progress
from explainers.target import Target

ONE_PASS_BASES = ("gradient_x_sign", "gradient_x_input", "positive_gradient_x_input", "guided_backprop")
"""The base methods that need one forward and one backward pass; the forward pass also gives the masked image's logits."""

BASES = (*ONE_PASS_BASES, "integrated_gradients", "deep_lift")
COMPLETE_BASES = ("gradient_x_input", "integrated_gradients", "deep_lift")
"""The base methods whose attributions sum to the logit in a network without biases."""

STRETCH_PERCENTILE = 99.5  # the percentile of the mask that stretching scales to 1
INCOMPLETE = 0.01  # a sum of attributions that differs from the logit by more than this fraction of it is flagged


BASE = choice("gradient_x_sign", *BASES, label="Base method", help=(
    "The method whose map becomes the mask. Integrated Gradients takes 50 times as long and DeepLIFT twice; in a network without "
    "biases both are the same as Gradient x Input."))


@dataclass(frozen=True)
class Params:
    """The base method and the number of masks."""

    base: str = BASE
    iterations: int = integer(3, low=1, high=50, label="Iterations", help=(
        "How many masks are multiplied, each made from the masked image. The paper's tables show 1 to 3, its appendix up to 19."))


def passes(params: Params) -> Passes:
    """The base method's passes for each iteration, and one forward pass to score the image under the last mask."""
    return passes_of_an_iteration(params.base) * params.iterations + Passes(forward=1)


def passes_of_an_iteration(base: str) -> Passes:
    """The passes of one image that give its logits and its base map."""
    if base == "deep_lift":
        return deep_lift.METHOD.passes(deep_lift.Params())
    if base == "integrated_gradients":
        return integrated_gradients.METHOD.passes(integrated_gradients.Params()) + Passes(forward=1)
    return Passes(forward=1, backward=1)


def between_0_and_1(maps: Tensor) -> Tensor:
    """(N, C, H, W): each channel of each map scaled from its minimum, 0, to its maximum, 1. A constant channel becomes 0."""
    maps = maps.contiguous()  # with channels last, each of the steps below would take several times as long
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    span = high - low
    return (maps - low).div_(torch.where(span == 0, torch.ones_like(span), span))


def check_base(network: Classifier, base: str) -> None:
    """Raises UnsupportedError where the base method cannot explain this network."""
    declared = {**GUIDED_METHODS, "deep_lift": deep_lift.METHOD}
    reason = declared[base].lacks(network) if base in declared else None
    if reason:
        raise UnsupportedError(reason)


def check_reader(network: Classifier, reader: Classifier) -> None:
    """Raises UnsupportedError where ``reader`` cannot read images that are masked for ``network``."""
    if (reader.channels, reader.input_size) != (network.channels, network.input_size):
        raise UnsupportedError(f"{reader.title} takes images of another size than {network.title}, so it cannot read its masked ones.")
    if reader.categories != network.categories:
        raise UnsupportedError(f"{reader.title} knows other classes than {network.title}, so it cannot read its masked images.")


def read_by(reader: Classifier, network: Classifier, images: Tensor) -> Tensor:
    """Images (N, C, H, W) on the scale of ``network`` as the reader's inputs, on its device.

    Hidden pixels keep their colour, which is the mean colour of ``network``.
    """
    theirs, ours = reader.preprocessing, network.preprocessing
    same_scale = (theirs.mean, theirs.std) == (ours.mean, ours.std)
    return (images if same_scale else theirs.normalise(ours.pixels(images))).to(reader.device)


def logits_and_map(network: Classifier, x: Tensor, score: Callable[[Tensor], Tensor], base: str,
                   tick: Callable[[], None] = lambda: None) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and base maps (N, C, H, W) of a batch.

    score: logits to values (N,). tick: called after every point of Integrated Gradients' paths, because they take long.
    """
    if base == "deep_lift":
        logits, multipliers = deep_lift.logits_and_multipliers(network, x, torch.zeros_like(x), score)
        return logits, multipliers * x
    if base == "integrated_gradients":
        return _logits_and_integrated(network, x, score, tick)
    logits, gradient = _logits_and_gradient(network, x, score, GUIDED if base == "guided_backprop" else PLAIN)
    return logits, PRODUCTS[base](gradient, x) if base in PRODUCTS else gradient


def _logits_and_gradient(network: Classifier, x: Tensor, score: Callable[[Tensor], Tensor],
                         rules: Mapping[str, Rule] = PLAIN) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = network.logits(x, rules)
        return logits.detach(), torch.autograd.grad(score(logits).sum(), x)[0]


def _logits_and_integrated(network: Classifier, x: Tensor, score: Callable[[Tensor], Tensor],
                           tick: Callable[[], None]) -> tuple[Tensor, Tensor]:
    """Integrated Gradients of all images of a batch, one point of their paths after the other."""
    settings = integrated_gradients.Params()
    mean_gradient = torch.zeros_like(x)
    for point, weight in zip(*integrated_gradients.nodes(settings.steps, settings.quadrature), strict=True):
        mean_gradient += float(weight) * _logits_and_gradient(network, float(point) * x, score)[1]
        tick()
    with torch.inference_mode():
        logits = network.logits(x)
    return logits, mean_gradient * x


def masked_inputs(x: Tensor, masks: Tensor) -> Tensor:
    """(n + 1, C, H, W): the image and its product with each of the n ``masks``. Made on demand, so that no cache holds it."""
    return torch.cat((x, x * masks.to(x.device)))


def reader_logits(reader: Classifier, network: Classifier, x: Tensor, masks: Tensor, progress: Progress | None = None) -> Tensor:
    """(n + 2, K): what ``reader`` makes of an image (1, C, H, W), of what each of n masks, made for ``network``, leaves of it, and of
    a blank image of the mean colour, which tells what it says where nothing is left to see.

    Takes n + 2 passes forward of the reader. Raises UnsupportedError for a reader of other images or classes, and Cancelled.
    """
    check_reader(network, reader)
    images = read_by(reader, network, torch.cat((masked_inputs(x, masks), torch.zeros_like(x))))
    context = Context(reader, options=RunOptions(progress))

    def answers(a: int, b: int) -> Tensor:
        with torch.inference_mode():
            return reader.logits(images[a:b]).cpu()

    return torch.cat([logits for _, _, logits in context.batches(len(images), answers)])


@dataclass(frozen=True)
class MaskedView:
    """An image under a mask, for display. Both are multiplied by ``factor``; what the network sees has factor 1."""

    picture: Tensor  # (C, H, W), normalised
    mask: np.ndarray  # (H, W), the mean over channels, above 1 where stretched further
    factor: float


def masked_view(x: Tensor, extras: Mapping[str, Any], step: int, stretch: bool) -> MaskedView:
    """x (1, C, H, W) after ``step`` masks of its map's ``extras``. ``stretch``: scale the mask's ``STRETCH_PERCENTILE`` to 1."""
    x = x[0].cpu()
    mask = extras["masks"][step - 1] if step else torch.ones_like(x)
    grey = mask.mean(0).numpy()
    strongest = float(np.percentile(grey, STRETCH_PERCENTILE))
    factor = 1 / strongest if stretch and strongest > 0 else 1.0
    return MaskedView(x * mask * factor, grey * factor, factor)


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    check_base(network, params.base)
    mask = torch.ones_like(x)
    masks, attributions, outputs = [], [], []

    def record(logits: Tensor) -> None:
        probabilities = logits.softmax(-1)
        highest, prediction = probabilities.max(1)
        outputs.append(torch.stack([*(target.score(v)[0] for v in (logits, probabilities)), prediction[0], highest[0]]))

    def logits_and_integrated(masked: Tensor, i: int) -> tuple[Tensor, Tensor]:
        part = context.part(i, i + 1, params.iterations, lambda: mask[0])
        settings = integrated_gradients.Params()
        with torch.inference_mode():
            logits = network.logits(masked)
        return logits, integrated_gradients.attribute(network, masked, target, settings, part).native[None]

    for i in range(params.iterations):
        if params.base == "integrated_gradients":  # of one image many points of the path fit into a batch
            logits, base_map = logits_and_integrated(x * mask, i)
        else:
            logits, base_map = logits_and_map(network, x * mask, target.score, params.base)
        record(logits)
        mask = mask * between_0_and_1(base_map)
        masks.append(mask)
        attributions.append(base_map)
        context.progress(i + 1, params.iterations, mask[0])
    with torch.inference_mode():
        record(network.logits(x * mask))
    logit, probability, prediction, highest = torch.stack(outputs).T.tolist()
    sums = [float(base_map.cpu().double().sum()) for base_map in attributions]
    return RawMap(mask[0], flags=incompleteness(params.base, sums, logit), extras={
        "masks": torch.cat(masks).cpu(), "attributions": torch.cat(attributions).cpu(), "attribution_sum": sums,
        "logit": logit, "probability": probability,
        "prediction": [int(index) for index in prediction], "prediction_probability": highest})


def incompleteness(base: str, sums: Sequence[float], logit: Sequence[float]) -> tuple[str, ...]:
    """A warning where the whole image's attributions should sum to its logit (definition 1) and do not.

    sums: of the attributions at each iteration. logit: the same iteration's logit, or for a contrast the difference of two.
    """
    if base not in COMPLETE_BASES or abs(sums[0] - logit[0]) <= INCOMPLETE * max(abs(logit[0]), abs(sums[0])):
        return ()
    cause = "biases add" if base == "gradient_x_input" else "the mean colour alone already has"
    return (f"the attributions of the whole image sum to {sums[0]:.3g} and its logit is {logit[0]:.3g}: the rest is what {cause}, "
            "which no mask shows".replace("-", "\u2212"),)


METHOD = Method(
    title="Attribution mask", family="gradient", attribute=attribute, passes=passes, params=Params, signed=False, version=4,
    previews=True,
    citation=Citation("Lee, Chang", "Attribution Mask: filtering out irrelevant features by recursively focusing attention on "
                        "inputs of DNNs", "arXiv 2102.07332, 2021", "section 3.1"),
    idea="Turn a map into a mask between 0 and 1, show the network the masked image, explain that again, and multiply the masks. "
         "What is still bright after several iterations is what the network uses for the class.",
    equation=r"P_i = P_{i-1} \odot \frac{A_i - \min A_i}{\max A_i - \min A_i}, \quad A_i = \operatorname{Expl}(f_c, x \odot P_{i-1})",
    limits="Where the base map is 0 the mask is grey, not black, so empty regions are dimmed and not removed. In a network with "
           "biases the class is lost after a few iterations. A probability that rises under the class's own mask proves nothing: "
           "the mask was made for that class. In a network with biases the attributions do not sum to the logit.",
    auxiliary_outputs=(
        # What the network predicts stands in the extras; the pictures that it predicts for are made when they are drawn.
        AuxiliaryOutput("prediction", "Masked input", "pictures", make=lambda x, extras: masked_inputs(x, extras["masks"]),
                        numbers=("logit", "probability"), help=(
                            "The image, then the masked image after each iteration. Hidden pixels take the mean colour.")),
        AuxiliaryOutput("attributions", "Attributions", "maps", numbers=("attribution_sum",), help=(
            "The signed map of the masked image at each iteration, from which the next mask is made.")),
        AuxiliaryOutput("masks", "Mask", "masks", help=(
            "The product of all masks so far, in each colour channel: 1 keeps a pixel, 0 hides it.")),
        AuxiliaryOutput("attribution_sum", "Sum of attributions", "trace", unit="logit", help=(
            "At each iteration. In a network without biases Gradient x Input, Integrated Gradients and DeepLIFT sum to the logit.")),
        AuxiliaryOutput("logit", "Logit", "trace", "The class's logit for the image, and after each iteration.", unit="logit"),
        AuxiliaryOutput("probability", "Probability", "trace", "The class's probability for the image, and after each iteration.",
                        unit="probability"),
    ),
)
