"""One optimizer step: objective, gradients, all-reduce, clipping, learning rate, moving average (EMA)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TypeAlias

import torch
from torch import Tensor

from training import optimization
from training.data.batches import InMemoryBatches
from training.data.photos.crops import RandomCrops
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
    spent: float = 0.0
    """Seconds of the budget that this process has spent since the step before."""

    def parts(self, at_once: int) -> list[tuple[Tensor, Tensor | None, Draws]]:
        """Images, labels and random numbers in parts of at most `at_once` rows; the numbers are those of the whole."""
        count = len(self.images)
        if count <= at_once:
            return [(self.images, self.labels, self.draws)]
        parts = [slice(first, min(first + at_once, count)) for first in range(0, count, at_once)]
        return [
            (self.images[rows], None if self.labels is None else self.labels[rows], self.draws.part(rows))
            for rows in parts
        ]


def load_batch(
    state: TrainingState, split: InMemoryBatches | RandomCrops, rows: Tensor, *, stop: bool, spent: float = 0.0
) -> Batch:
    """The share of this process of the rows (N,) of a split."""
    share = state.group.shard(len(rows))
    source = generator(state.config.run.seed, Purpose.STEP, state.progress.step)
    images, labels = split.visit(rows, share, state.config.run.seed, state.progress.step)
    return Batch(rows, images, labels, Draws(source, len(rows), share.start, share.stop, state.device), stop, spent)


def train_step(state: TrainingState, batch: Batch) -> Measures:
    """Update the weights once; sums of the measures over the whole batch.

    Beside them how many processes were asked to `stop`, and the seconds that all of them have `spent`.

    Raises:
        TrainingError: a loss or the gradient is not finite; the weights are as they were.
    """
    config, step = state.config, state.progress.step
    if config.model.network:
        # A network of the user's own may draw numbers, as dropout does: a run that is resumed draws the same.
        torch.manual_seed(generator(config.run.seed, Purpose.STEP, step).initial_seed())
    gradients, sums = _gradients(state, batch)
    optimization.hand_over(gradients, state.parameter_groups)
    state.group.all_reduce(gradients)
    norm = torch.nn.utils.get_total_norm(gradients)
    measures = _reduced(state, batch, sums) | {"gradient_norm": float(norm)}
    _refuse_non_finite(measures, step, batch.rows)
    optimization.clip(gradients, measures["gradient_norm"], config.optimizer.clip_norm)
    rate = state.learning_rate(step)
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    if state.average:
        state.average.update_parameters(state.model)
    return {**measures, "images": len(batch.rows), "steps": 1}


def _gradients(state: TrainingState, batch: Batch) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Gradients of the mean loss over the whole batch, and sums of the measures, both of this process's share.

    A share whose features would take too much memory is computed in parts; gradients add up.
    """
    config = state.config
    kl_weight = optimization.kl_weight(config.loss, state.progress.step, state.steps_per_epoch)
    gradients: list[Tensor] = []
    sums: dict[str, Tensor] = {}
    for images, labels, draws in batch.parts(state.rows_at_once):
        with optimization.autocast(config.device.precision, state.device):
            outcome = objectives.evaluate(state.model, images, labels, draws, config.loss, kl_weight)
        losses = {name: loss.sum() / len(batch.rows) for name, loss in outcome.losses.items()}
        found = optimization.gradients(losses, state.parameter_groups)
        if gradients:
            torch._foreach_add_(gradients, found)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
        else:
            gradients = found
        for name, values in outcome.measures.items():
            sums[name] = values.detach().sum() + sums[name] if name in sums else values.detach().sum()
    return gradients, sums


def _reduced(state: TrainingState, batch: Batch, sums: Mapping[str, Tensor]) -> Measures:
    """Sums over the images of all processes, with one transfer from the device."""
    of_processes = torch.tensor([float(batch.stop), batch.spent], device=state.device)
    total = torch.cat([torch.stack(list(sums.values())), of_processes])
    state.group.all_reduce([total])
    return dict(zip([*sums, "stop", "spent"], total.tolist(), strict=True))


def _refuse_non_finite(measures: Measures, step: int, rows: Tensor) -> None:
    bad = [name for name, value in measures.items() if not isfinite(value)]
    if bad:
        where = f"step {step}, training images {rows.tolist()}"
        raise TrainingError(f"{', '.join(bad)} is not finite at {where}; try a lower optimizer.learning_rate")
