"""Training state, saved and restored: model, moving average of its weights (EMA), optimizers, progress."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import inf, isfinite
from typing import Annotated, Any, cast

import torch
from pydantic import Strict, TypeAdapter
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

from training import optimization
from training.checkpoint import STATE
from training.config import Config
from training.data.dataset import Dataset
from training.distributed import ProcessGroup
from training.errors import CheckpointError, one_line
from training.losses.terms import Likelihood
from training.models import autoencoders
from training.models.families import Network
from training.run import step_memory
from training.run.provenance import network_shape


class EpochRecord(TypedDict):
    """A line of metrics.jsonl: measures as means per image."""

    epoch: int
    step: int
    gradient_norm: float
    train: dict[str, float]
    validation: dict[str, float]
    learning_rate: float
    seconds: float
    images_per_second: float


@dataclass
class Progress:
    """How far a run is. Noise, order, rates and KL weight follow from the step, so they need no saving."""

    step: int = 0
    best_loss: float = inf
    best_epoch: int = 0
    seconds: float = 0.0
    """Spent in this epoch so far."""
    spent: float = 0.0
    """Seconds of the budget that are spent, of all processes; 0 without one."""
    sums: dict[str, float] = field(default_factory=dict)
    """Of each measure over the images of this epoch so far."""
    # Strict: of a tensor that a damaged state has here, pydantic would make a list.
    history: Annotated[list[EpochRecord], Strict()] = field(default_factory=list)

    def count(self, measures: Mapping[str, float], seconds: float) -> None:
        """Add the measures of a step."""
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in measures.items()}
        self.seconds += seconds
        self.step += 1

    def fits(self, steps_per_epoch: int) -> bool:
        """Whether its numbers agree: an epoch in the history for each that has ended, sums for one that has begun.

        An epoch that the budget has cut short has ended too.
        """
        ended, begun = divmod(self.step, steps_per_epoch)
        if begun and self.spent and not self.sums:
            ended, begun = ended + 1, 0
        return (
            self.step >= 0
            and len(self.history) == ended
            and 0 <= self.best_epoch <= ended
            and all("loss" in record[split] for record in self.history for split in ("train", "validation"))
            and self.sums.keys() >= ({"loss", "images", "steps", "gradient_norm"} if begun else set())
            and min(self.seconds, self.spent) >= 0
            and all(map(isfinite, [self.seconds, self.spent, *self.sums.values()]))
        )

    def end_epoch(self, epoch: int, validation: Mapping[str, float], learning_rate: float) -> EpochRecord:
        """Add the record of a finished epoch to the history, with means per image, and return it."""
        sums, seconds = self.sums, self.seconds
        images, steps = sums.pop("images"), sums.pop("steps")
        record: EpochRecord = {
            "epoch": epoch,
            "step": self.step,
            "gradient_norm": sums.pop("gradient_norm") / steps,
            "train": {name: value / images for name, value in sums.items()},
            "validation": dict(validation),
            "learning_rate": learning_rate,
            "seconds": seconds,
            "images_per_second": images / seconds,
        }
        self.history.append(record)
        self.sums, self.seconds = {}, 0.0
        return record


_PROGRESS = TypeAdapter(Progress)


class TrainingState:
    """Everything that a step changes, and what it needs to know of the run."""

    def __init__(self, config: Config, dataset: Dataset, device: torch.device, group: ProcessGroup) -> None:
        self.config, self.device, self.group = config, device, group
        self.memory_format = torch.channels_last if config.model.channels else torch.contiguous_format
        self.steps_per_epoch = -(-len(dataset.train) // config.run.batch_size)
        self.steps = self.steps_per_epoch * config.run.epochs
        # A network of the user's own draws its first weights as it is built.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.run.seed)
            self.model = autoencoders.build(config.model, network_shape(config, dataset), dataset.classes)
        self.model.likelihood = Likelihood(config.loss.likelihood, config.loss.sigma)
        cast("Any", self.model).to(device, memory_format=self.memory_format)
        decay = config.run.ema_decay
        self.average = AveragedModel(self.model, multi_avg_fn=optimization.moving_average(decay)) if decay else None
        self.parameter_groups = self.model.parameter_groups()
        self.optimizers = optimization.optimizers(config.optimizer, self.parameter_groups)
        self.progress = Progress()
        self.rows_at_once = step_memory.rows_at_once(self.model, dataset, config, device)

    @property
    def served_model(self) -> Network:
        """The network that is evaluated and saved: the moving average of the weights where one is kept."""
        return cast("Network", self.average.module) if self.average else self.model

    @property
    def budget(self) -> float:
        """Seconds that the run may spend; 0 for as many as its epochs take."""
        return self.config.run.minutes * 60

    @property
    def is_over(self) -> bool:
        """Whether all steps are done or the budget is spent."""
        progress = self.progress
        return progress.step >= self.steps or 0 < self.budget <= progress.spent

    def learning_rate(self, step: int) -> float:
        """The learning rate at a step, of the schedule over the steps, or over the budget if that is spent sooner."""
        spent, budget = int(self.progress.spent * 1_000), int(self.budget * 1_000)
        settings = self.config.optimizer
        if budget and spent * self.steps > step * budget:
            return optimization.learning_rate(settings, min(spent, budget), budget)
        return optimization.learning_rate(settings, step, self.steps)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors; `load_state_dict` continues from them exactly."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "progress": asdict(self.progress),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            CheckpointError: it is something else, or of another network.
        """
        try:
            self._restore(saved)
        except (RuntimeError, TypeError, LookupError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{STATE} is damaged: {one_line(error)}; train again") from error

    def _restore(self, saved: Mapping[str, Any]) -> None:
        progress = _PROGRESS.validate_python(saved["progress"])
        if not (progress.step <= self.steps and progress.fits(self.steps_per_epoch)):
            raise ValueError(f"{progress.step} of {self.steps} steps and {len(progress.history)} epochs do not agree")
        self.model.load_state_dict(saved["model"])
        if self.average:
            self.average.load_state_dict(saved["average"])
        for name, optimizer in self.optimizers.items():
            _restore_optimizer(optimizer, saved["optimizers"][name]["state"])
        self.progress = progress


def _restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Set Adam's means by position of their parameter; settings follow from the configuration and the step."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    for position, means in state.items():
        if any(each.shape not in (parameters[position].shape, ()) for each in means.values()):
            raise ValueError(f"the optimizer's means of parameter {position} have another shape")
    optimizer.load_state_dict({"state": dict(state), "param_groups": optimizer.state_dict()["param_groups"]})
