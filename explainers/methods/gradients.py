"""The gradient of the target logit, and its products with the image. One backward pass serves all four.

For a network f without biases, the sum of gradient x input is exactly the logit: f is then homogeneous of degree one.
Gradient x sign (GxSI) asks instead how the logit moves when each pixel's magnitude moves, whatever its size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from explainers.context import Context
from explainers.contract import Method, NoParameters, Passes, RawMap, Reference, Target, choice, switch
from explainers.networks.classifier import Classifier

PRODUCTS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradient_x_input": lambda gradient, x: gradient * x,
    "positive_gradient_x_input": lambda gradient, x: gradient.clamp(min=0) * x,
    "gradient_x_sign": lambda gradient, x: gradient * x.sign(),
}
"""The family's maps as products of the gradient and the image, of one image or of a batch."""


def _shared_gradient(network: Classifier, x: Tensor, target: Target, context: Context) -> Tensor:
    """(C, H, W); computed once for the whole family."""
    return context.share(("gradient", target), lambda: network.gradient(x, target)[0])


def one_pass(params: object) -> Passes:
    """One image forward, one gradient back."""
    return Passes(forward=1, backward=1)


@dataclass(frozen=True)
class GradientParams:
    """How the gradient is shown."""

    channels: str = choice("sum", "sum", "max_abs", label="Colour channels", help=(
        "sum: add the signed values of the colour channels. max_abs: keep the largest magnitude (TorchRay); the map is "
        "then unsigned."))
    times_input: bool = switch(False, label="Times input", help=(
        "Multiply the gradient by the image, as the DMBP paper does in its tables. Darker than mean pixels flip sign."))


def gradient(network: Classifier, x: Tensor, target: Target, params: GradientParams, context: Context) -> RawMap:
    found = _shared_gradient(network, x, target, context)
    if params.times_input:
        found = found * x[0]
    return RawMap(found, reduction=params.channels, signed=params.channels == "sum")


def gradient_x_input(network: Classifier, x: Tensor, target: Target, params: NoParameters, context: Context) -> RawMap:
    return RawMap(PRODUCTS["gradient_x_input"](_shared_gradient(network, x, target, context), x[0]))


@dataclass(frozen=True)
class PositiveParams:
    """Which gradients count."""

    gradient: str = choice("positive", "positive", "absolute", label="Gradient", help=(
        "positive: negative gradients become zero, as the paper writes. absolute: their sign is dropped, as the authors' "
        "code does."))


def positive_gradient_x_input(network: Classifier, x: Tensor, target: Target, params: PositiveParams,
                              context: Context) -> RawMap:
    found = _shared_gradient(network, x, target, context)
    return RawMap(PRODUCTS["positive_gradient_x_input"](found if params.gradient == "positive" else found.abs(), x[0]))


def gradient_x_sign(network: Classifier, x: Tensor, target: Target, params: NoParameters, context: Context) -> RawMap:
    return RawMap(PRODUCTS["gradient_x_sign"](_shared_gradient(network, x, target, context), x[0]))


_SIMONYAN = Reference("Simonyan, Vedaldi, Zisserman", "Deep inside convolutional networks: visualising image "
                      "classification models and saliency maps", "ICLR workshop 2014", "section 3")
_SHRIKUMAR = Reference("Shrikumar, Greenside, Shcherbina, Kundaje", "Not just a black box: learning important features "
                       "through propagating activation differences", "arXiv 1605.01713, 2016")
_LEE = Reference("Lee, Kim, Ko", "Attribution Mask: filtering out irrelevant features by recursively focusing attention on "
                 "inputs of DNNs", "arXiv 2102.07332, 2021", "section 3")

METHODS = {
    "gradient": Method(
        title="Gradient", reference=_SIMONYAN, family="gradient", attribute=gradient, passes=one_pass, params=GradientParams,
        idea="How much the target logit would rise if a pixel value rose a little.",
        equation=r"A = \frac{\partial f_c(x)}{\partial x}",
        limits="Noisy, because the gradient of a deep ReLU network changes abruptly from pixel to pixel. It says what would "
               "change the logit, not what the logit is made of."),
    "gradient_x_input": Method(
        title="Gradient x Input", reference=_SHRIKUMAR, family="gradient", attribute=gradient_x_input, passes=one_pass,
        idea="The gradient, weighted by the pixel itself: each pixel's share of the logit, if the network were linear.",
        equation=r"A = x \odot \frac{\partial f_c(x)}{\partial x}",
        limits="Pixels of the mean colour are 0 after normalisation, so they get no attribution however much they matter. "
               "It sums to the logit only in a network without biases."),
    "positive_gradient_x_input": Method(
        title="Positive Gradient x Input", reference=_LEE, family="gradient", attribute=positive_gradient_x_input,
        passes=one_pass, params=PositiveParams,
        idea="Gradient x input, with only the pixels kept whose gradient is positive.",
        equation=r"A = x \odot \max\!\left(0, \frac{\partial f_c(x)}{\partial x}\right)",
        limits="Evidence against the class is thrown away, so it follows the image more than the class."),
    "gradient_x_sign": Method(
        title="Gradient x Sign (GxSI)", reference=_LEE, family="gradient", attribute=gradient_x_sign, passes=one_pass,
        idea="How the target logit moves when a pixel's contrast grows: the gradient times the sign of the input, so that faint "
             "pixels count as much as strong ones.",
        equation=r"A = \operatorname{sign}(x) \odot \frac{\partial f_c(x)}{\partial x}",
        limits="As noisy as the gradient. Its meaning as a magnitude holds in networks without biases."),
}
