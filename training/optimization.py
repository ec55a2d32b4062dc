"""Gradients, their norm, learning rate and KL weight: functions of the step, so that nothing here needs saving."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from training.config import Loss, Optimizer
from training.models.autoencoders import VaeGan

WARM_UP_SHARE = 0.1


def learning_rate(settings: Optimizer, step: int, steps: int) -> float:
    """The rate at a step: constant; half a cosine to 0; or a rise over the first tenth, then half a cosine to 0."""
    if settings.schedule == "constant":
        return settings.learning_rate
    rise = int(steps * WARM_UP_SHARE) if settings.schedule == "one-cycle" else 0
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


def kl_weight(settings: Loss, step: int, steps_per_epoch: int) -> float:
    """The weight of the KL divergence at a step: a straight line to beta over the warm-up."""
    warm_up = settings.warm_up_epochs * steps_per_epoch
    return settings.beta * (min(1.0, step / warm_up) if warm_up else 1.0)


def players(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters that each loss of an objective moves: all, but for a VAE/GAN, whose three parts have their own."""
    if isinstance(model, VaeGan):
        return {name: list(getattr(model, name).parameters()) for name in ("encoder", "decoder", "discriminator")}
    return {"model": list(model.parameters())}


def optimizers(settings: Optimizer, teams: Mapping[str, list[nn.Parameter]]) -> dict[str, torch.optim.Optimizer]:
    """One AdamW per player; without weight decay that is Adam (Loshchilov & Hutter 2017)."""
    return {
        name: torch.optim.AdamW(
            parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        for name, parameters in teams.items()
    }


def gradients(losses: Mapping[str, Tensor], teams: Mapping[str, list[nn.Parameter]]) -> list[Tensor]:
    """Sets `grad` of every parameter to that of its own player's loss; gives them all, in order."""
    found: list[Tensor] = []
    for position, (name, loss) in enumerate(losses.items(), start=1):
        grads = torch.autograd.grad(loss, teams[name], retain_graph=position < len(losses))
        for parameter, grad in zip(teams[name], grads, strict=True):
            parameter.grad = grad
        found += grads
    return found


def moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], None]:
    """How an average follows the weights: slowly at last, faster at first, when it still holds the initial weights."""

    def follow(average: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor) -> None:
        count = float(updates)
        share = min(decay, (1 + count) / (10 + count))
        for old, new in zip(average, weights, strict=True):
            old.lerp_(new, 1 - share)

    return follow


def clip(grads: list[Tensor], norm: float, limit: float) -> None:
    """Scales the gradients to the norm `limit` if theirs, `norm`, is larger; a limit of 0 leaves them."""
    if limit and norm > limit:
        torch._foreach_mul_(grads, limit / norm)
