"""Optimization: learning-rate scheduler and KL weight as functions of the step, gradients, clipping, EMA."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from training.config import Loss, Optimizer


def learning_rate(settings: Optimizer, step: int, steps: int) -> float:
    """The learning rate at a step: constant, half a cosine to 0, or a rise before the cosine.

    With a budget of time, both are milliseconds.
    """
    if settings.schedule == "constant":
        return settings.learning_rate
    rise = int(steps * settings.warm_up_share) if settings.schedule == "one-cycle" else 0
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


def kl_weight(settings: Loss, step: int, steps_per_epoch: int) -> float:
    """The weight of the KL divergence at a step: a straight line to beta over the warm-up."""
    warm_up = settings.warm_up_epochs * steps_per_epoch
    return settings.beta * (min(1.0, step / warm_up) if warm_up else 1.0)


def optimizers(settings: Optimizer, groups: Mapping[str, list[nn.Parameter]]) -> dict[str, torch.optim.Optimizer]:
    """One AdamW per parameter group; without weight decay that is Adam (Loshchilov & Hutter 2017)."""
    return {
        name: torch.optim.AdamW(
            parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        for name, parameters in groups.items()
    }


def gradients(losses: Mapping[str, Tensor], groups: Mapping[str, list[nn.Parameter]]) -> list[Tensor]:
    """The gradient of every parameter by its own group's loss, in order."""
    found: list[Tensor] = []
    for position, (name, loss) in enumerate(losses.items(), start=1):
        found += torch.autograd.grad(loss, groups[name], retain_graph=position < len(losses))
    return found


def hand_over(gradients: Sequence[Tensor], groups: Mapping[str, list[nn.Parameter]]) -> None:
    """Set `grad` of every parameter, in the order of `gradients`."""
    for parameter, gradient in zip((each for group in groups.values() for each in group), gradients, strict=True):
        parameter.grad = gradient


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision: bfloat16 for matrix products and convolutions, `auto` on a GPU only; losses stay float32."""
    lower = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=lower)


def moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """The update of an exponential moving average (EMA); its decay grows, to forget the initial weights sooner."""

    def follow(average: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int) -> None:
        count = float(updates)
        share = min(decay, (1 + count) / (10 + count))
        for old, new in zip(average, weights, strict=True):
            old.lerp_(new, 1 - share)

    return follow


def clip(grads: list[Tensor], norm: float, limit: float) -> None:
    """Scale the gradients to the norm `limit` if theirs, `norm`, is larger; a limit of 0 leaves them."""
    if limit and norm > limit:
        torch._foreach_mul_(grads, limit / norm)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
