"""Attack a picture: change it so little that a person hardly sees it, and so that a network no longer gives a class.

This is MI-FGSM (Dong, Liao, Pang, Su, Zhu, Hu, Li 2018: Boosting adversarial attacks with momentum, CVPR, algorithm 1), the attack of
the I-GOS paper's supplement II. With J the cross-entropy of a class, a picture x_0 of pixels from 0 to 1 and steps t = 0 .. T - 1,

    g_{t+1} = mu g_t + grad J(x_t) / || grad J(x_t) ||_1
    x_{t+1} = the pixels nearest to x_t + (epsilon / T) sign(g_{t+1}) that are at most epsilon from x_0 and inside [0, 1].

J rises for the class that is attacked; with ``towards`` it falls for another class instead. There is no randomness. The code takes
the gradient of m = log of the sum of the other classes' exp(logit), minus the class's own logit, in place of J. It has the same
direction, because J = log(1 + exp(m)), and it does not vanish in float32 where the class is all but certain.

    attacked = attack(net, x, target=3)
    attacked.is_lost, attacked.trace, ex.explain(net, attacked.x, "i_gos", target=3)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.errors import ExplainerError, ParameterError
from explainers.networks.classifier import Classifier
from explainers.passes import Passes
from explainers.progress import Progress, report
from explainers.question import one_image

EPSILON, STEPS, MOMENTUM = 8 / 255, 10, 1.0  # the paper has 16 / 255, 10 and 1; half of its epsilon is enough here
MOST_STEPS = 1000


@dataclass(frozen=True)
class Attack:
    """An attacked picture, and what the network gives before and after.

    x: (1, C, H, W), preprocessed, on the network's device; its pixels are real numbers, not rounded to levels of 1/255. target: the
    class that was attacked. towards: the class that it was led to, or None. epsilon: the largest change of a pixel, of 1. before,
    after: probabilities (K,) on the CPU. trace: the probability of ``target`` at the start and after each step; trace_towards: the
    same of ``towards``, empty without one.
    """

    x: Tensor
    target: int
    towards: int | None
    epsilon: float
    before: Tensor
    after: Tensor
    trace: tuple[float, ...]
    trace_towards: tuple[float, ...]
    passes: Passes

    @property
    def first_before(self) -> int:
        """The network's first choice for the picture."""
        return int(self.before.argmax())

    @property
    def first_after(self) -> int:
        """The network's first choice for the attacked picture."""
        return int(self.after.argmax())

    @property
    def is_lost(self) -> bool:
        """Whether the class is not the first choice any more."""
        return self.first_after != self.target

    @property
    def is_reached(self) -> bool:
        """Whether the class that the attack led to is now the first choice; False without one."""
        return self.first_after == self.towards


def passes(steps: int) -> Passes:
    """The passes of an attack: one forward and backward a step, and one forward for its end. Finding the class is not counted."""
    return Passes(steps + 1, steps)


def attack(network: Classifier, x: Tensor, target: int | None = None, *, epsilon: float = EPSILON, steps: int = STEPS,
           momentum: float = MOMENTUM, towards: int | None = None, progress: Progress | None = None) -> Attack:
    """Attack one picture.

    x: (1, C, H, W), preprocessed. target: the class to lead away from, by default the network's first choice. epsilon: the largest
    change of a pixel, where pixels go from 0 to 1; 0 leaves the picture as it is. momentum: 0 for the attack without memory of former
    steps. towards: lead to this class instead of only away. A pixel that is outside 0 .. 1 already moves only inwards.
    Raises ParameterError, ExplainerError (a class that the network does not have, several images) and Cancelled.
    """
    _check(epsilon, steps, momentum)
    x = one_image(network, x)
    goal = Goal.of(network, x, target, towards)
    network = network.metered()
    bounds = PixelBounds.of(network, x, epsilon)
    change, velocity = torch.zeros_like(x), torch.zeros_like(x)
    seen = []  # probabilities (K,) at the start of each step
    for step in range(steps):
        probabilities, gradient = goal.probabilities_and_gradient(network, bounds.moved(x, change))
        seen.append(probabilities)
        gradient = gradient / bounds.deviation  # by pixels in place of normalised values
        size = gradient.abs().sum()
        velocity = momentum * velocity + (gradient / size if size > 0 else gradient)
        change = bounds.within(change + epsilon / steps * velocity.sign())
        report(progress, step + 1, steps)
    attacked = bounds.moved(x, change)
    seen.append(network.predict(attacked)[0].cpu())
    return Attack(attacked, goal.away, towards, float(epsilon), seen[0], seen[-1], tuple(float(p[goal.away]) for p in seen),
                  () if towards is None else tuple(float(p[towards]) for p in seen), network.counted())


@dataclass(frozen=True)
class Goal:
    """The class to lead away from, and the class to lead to, if there is one."""

    away: int
    towards: int | None

    @classmethod
    def of(cls, network: Classifier, x: Tensor, target: int | None, towards: int | None) -> Goal:
        """A goal whose classes the network has; without a target it leads away from the first choice. Raises ExplainerError."""
        away = network.target(x, target)
        if towards is not None:
            network.target(x, towards)
        if len(network.categories) < 2:
            raise ExplainerError(f"{network.title} has one class only, which an attack cannot take away.")
        if away.contrast is not None or away.first == towards:
            raise ExplainerError("An attack leads away from one class and, if towards is given, to another one.")
        return cls(away.first, towards)

    def probabilities_and_gradient(self, network: Classifier, x: Tensor) -> tuple[Tensor, Tensor]:
        """The probabilities (K,) of ``x``, on the CPU, and the direction in which to change it, (1, C, H, W)."""
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = network.logits(x)
            rises = margin(logits, self.away) if self.towards is None else -margin(logits, self.towards)
            gradient = torch.autograd.grad(rises, x)[0]
        return logits[0].detach().softmax(-1).cpu(), gradient


def margin(logits: Tensor, index: int) -> Tensor:
    """How far the other classes together are ahead of one class, from the logits (1, K) of an image: a number."""
    others = torch.cat((logits[0, :index], logits[0, index + 1:]))
    return others.logsumexp(0) - logits[0, index]


@dataclass(frozen=True)
class PixelBounds:
    """The lowest and the highest change (1, C, H, W) of each pixel; 0 is always between them. deviation: (1, C, 1, 1), the size of one
    normalised unit in pixel values."""

    lowest: Tensor
    highest: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, network: Classifier, x: Tensor, epsilon: float) -> PixelBounds:
        """Of a preprocessed picture: at most epsilon, and inside 0 .. 1."""
        mean, deviation = (torch.tensor(values, dtype=x.dtype, device=x.device).view(1, -1, 1, 1)
                           for values in (network.preprocessing.mean, network.preprocessing.std))
        pixels = x * deviation + mean
        return cls(-pixels.clamp(0, epsilon), (1 - pixels).clamp(0, epsilon), deviation)

    def within(self, change: Tensor) -> Tensor:
        """The nearest change that is allowed."""
        return change.clamp(self.lowest, self.highest)

    def moved(self, x: Tensor, change: Tensor) -> Tensor:
        """The preprocessed picture after a change of its pixels."""
        return x + change / self.deviation


def _check(epsilon: float, steps: int, momentum: float) -> None:
    if not 0 <= epsilon <= 1:
        raise ParameterError(f"epsilon must be a number from 0 to 1, not {epsilon!r}.")
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise ParameterError(f"steps must be a whole number from 1 to {MOST_STEPS}, not {steps!r}.")
    if not 0 <= momentum <= 10:
        raise ParameterError(f"momentum must be a number from 0 to 10, not {momentum!r}.")
