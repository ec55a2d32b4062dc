"""One optimizer step: objective, gradients, all-reduce, clipping, learning rate, moving average (EMA)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TypeAlias

import torch
from torch import Tensor

from training import optimization
from training.data.batches import InMemoryBatches
from training.errors import TrainingError
from training.losses import objectives
from training.random_streams import Draws, Purpose, generator
from training.state import TrainingState

Measures: TypeAlias = dict[str, float]


@dataclass(frozen=True)
class Batch:
    """This process's share of a batch: images (n, C, H, W) in 0 to 1, labels (n,), random numbers."""

    rows: Tensor
    """(N,): positions in the training split of the whole batch, of all processes together."""
    images: Tensor
    labels: Tensor | None
    draws: Draws
    stop: bool = False
    """Whether this process was asked to stop."""


def load_batch(state: TrainingState, split: InMemoryBatches, rows: Tensor, *, stop: bool) -> Batch:
    """The share of this process of the rows (N,) of a split."""
    share = state.group.shard(len(rows))
    source = generator(state.config.run.seed, Purpose.STEP, state.progress.step)
    images, labels = split.batch(rows[share])
    return Batch(rows, images, labels, Draws(source, len(rows), share.start, share.stop, state.device), stop)


def train_step(state: TrainingState, batch: Batch) -> Measures:
    """Update the weights once; sums of the measures over the whole batch, and how many processes were asked to `stop`.

    Raises:
        TrainingError: a loss or the gradient is not finite; the weights are as they were.
    """
    config, step = state.config, state.progress.step
    kl_weight = optimization.kl_weight(config.loss, step, state.steps_per_epoch)
    with optimization.autocast(config.device.precision, state.device):
        outcome = objectives.evaluate(state.model, batch.images, batch.labels, batch.draws, config.loss, kl_weight)
    losses = {name: loss.sum() / len(batch.rows) for name, loss in outcome.losses.items()}
    gradients = optimization.gradients(losses, state.parameter_groups)
    state.group.all_reduce(gradients)
    norm = torch.nn.utils.get_total_norm(gradients)
    measures = _summed(state, batch, outcome.measures) | {"gradient_norm": float(norm)}
    _refuse_non_finite(measures, step, batch.rows)
    optimization.clip(gradients, measures["gradient_norm"], config.optimizer.clip_norm)
    rate = optimization.learning_rate(config.optimizer, step, state.steps)
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    if state.average:
        state.average.update_parameters(state.model)
    return {**measures, "images": len(batch.rows), "steps": 1}


def _summed(state: TrainingState, batch: Batch, measures: Mapping[str, Tensor]) -> Measures:
    """Sums over the images of all processes, with one transfer from the device."""
    stop = torch.tensor(float(batch.stop), device=state.device)
    sums = torch.stack([*(values.detach().sum() for values in measures.values()), stop])
    state.group.all_reduce([sums])
    return dict(zip([*measures, "stop"], sums.tolist(), strict=True))


def _refuse_non_finite(measures: Measures, step: int, rows: Tensor) -> None:
    bad = [name for name, value in measures.items() if not isfinite(value)]
    if bad:
        where = f"step {step}, training images {rows.tolist()}"
        raise TrainingError(f"{', '.join(bad)} is not finite at {where}; try a lower optimizer.learning_rate")
