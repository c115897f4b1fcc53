"""The gradient of the target logit, and three products of it with the image. All four share one backward pass.

A ReLU network f without biases is homogeneous of degree one, f(a x) = a f(x) for a > 0, so gradient x input then sums to the
logit exactly. Gradient x sign of input (GxSI; Lee, Chang 2021, equation 13) is the slope of the logit in each pixel's
magnitude: the size of the pixel itself does not weigh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.networks.classifier import Classifier
from explainers.parameters import NoParameters, choice, switch
from explainers.passes import Passes
from explainers.target import Target

PRODUCTS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradient_x_input": lambda gradient, x: gradient * x,
    "positive_gradient_x_input": lambda gradient, x: gradient.clamp(min=0) * x,
    "gradient_x_sign": lambda gradient, x: gradient * x.sign(),
}
"""Each map as a function of the gradient and the image, (C, H, W) or (N, C, H, W)."""


def _shared_gradient(network: Classifier, x: Tensor, target: Target, context: Context) -> Tensor:
    """The gradient (C, H, W), computed once for all four methods."""
    return context.memoize(("gradient", target), lambda: network.gradient(x, target)[0])


def one_pass(params: object) -> Passes:
    """One forward and one backward pass of one image."""
    return Passes(forward=1, backward=1)


@dataclass(frozen=True)
class GradientParams:
    """How the gradient becomes a map."""

    channels: str = choice("sum", "sum", "max_abs", label="Colour channels", help=(
        "sum: add the signed values of the colour channels. max_abs: keep the largest magnitude (TorchRay); the map is "
        "then unsigned."))
    times_input: bool = switch(False, label="Times input", help=(
        "Multiply the gradient by the image, as the DMBP paper does in its tables. Where a pixel is darker than the mean colour, the "
        "sign flips."))


def gradient(network: Classifier, x: Tensor, target: Target, params: GradientParams, context: Context) -> RawMap:
    native = _shared_gradient(network, x, target, context)
    if params.times_input:
        native = native * x[0]
    return RawMap(native, reduction=params.channels, signed=params.channels == "sum")


def gradient_x_input(network: Classifier, x: Tensor, target: Target, params: NoParameters, context: Context) -> RawMap:
    return RawMap(PRODUCTS["gradient_x_input"](_shared_gradient(network, x, target, context), x[0]))


@dataclass(frozen=True)
class PositiveParams:
    """What happens to negative gradients."""

    gradient: str = choice("positive", "positive", "absolute", label="Gradient", help=(
        "positive: negative gradients become 0, as in the paper. absolute: they lose their sign, as in the authors' code."))


def positive_gradient_x_input(network: Classifier, x: Tensor, target: Target, params: PositiveParams,
                              context: Context) -> RawMap:
    slope = _shared_gradient(network, x, target, context)
    return RawMap(PRODUCTS["positive_gradient_x_input"](slope if params.gradient == "positive" else slope.abs(), x[0]))


def gradient_x_sign(network: Classifier, x: Tensor, target: Target, params: NoParameters, context: Context) -> RawMap:
    return RawMap(PRODUCTS["gradient_x_sign"](_shared_gradient(network, x, target, context), x[0]))


_SIMONYAN = Citation("Simonyan, Vedaldi, Zisserman", "Deep inside convolutional networks: visualising image "
                      "classification models and saliency maps", "ICLR workshop 2014", "section 3")
_SHRIKUMAR = Citation("Shrikumar, Greenside, Shcherbina, Kundaje", "Not just a black box: learning important features "
                       "through propagating activation differences", "arXiv 1605.01713, 2016")
_LEE = Citation("Lee, Chang", "Attribution Mask: filtering out irrelevant features by recursively focusing attention on "
                 "inputs of DNNs", "arXiv 2102.07332, 2021", "sections 3.2 and 4.2")

METHODS = {
    "gradient": Method(
        title="Gradient", linear=True, citation=_SIMONYAN, family="gradient", attribute=gradient, passes=one_pass,
        params=GradientParams,
        idea="How much the target logit would rise if a pixel value rose a little.",
        equation=r"A = \frac{\partial f_c(x)}{\partial x}",
        limits="Noisy, because the gradient of a deep ReLU network changes abruptly from pixel to pixel. It says what would "
               "change the logit, not what the logit is made of."),
    "gradient_x_input": Method(
        title="Gradient x Input", short="GxI", linear=True, citation=_SHRIKUMAR, family="gradient",
        attribute=gradient_x_input, passes=one_pass,
        idea="The gradient times the pixel itself: what each pixel would contribute to the logit if the network were linear.",
        equation=r"A = x \odot \frac{\partial f_c(x)}{\partial x}",
        limits="Pixels of the mean colour are 0 after normalisation, so they get no attribution however much they matter. "
               "It sums to the logit only in a network without biases."),
    "positive_gradient_x_input": Method(
        title="Positive Gradient x Input", short="Positive GxI", citation=_LEE, family="gradient", attribute=positive_gradient_x_input,
        passes=one_pass, params=PositiveParams,
        idea="Gradient x input, with negative gradients set to zero.",
        equation=r"A = x \odot \max\!\left(0, \frac{\partial f_c(x)}{\partial x}\right)",
        limits="Negative gradients are discarded, so it follows the image more than the class."),
    "gradient_x_sign": Method(
        title="Gradient x Sign (GxSI)", short="GxSI", linear=True, citation=_LEE, family="gradient",
        attribute=gradient_x_sign, passes=one_pass,
        idea="How the target logit moves when a pixel's contrast grows: the gradient times the sign of the input, so that faint "
             "pixels count as much as strong ones.",
        equation=r"A = \operatorname{sign}(x) \odot \frac{\partial f_c(x)}{\partial x}",
        limits="As noisy as the gradient. The paper's argument for it holds in networks without biases."),
}
