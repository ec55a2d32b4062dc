"""Training state, saved and restored: model, moving average of its weights (EMA), optimizers, progress."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, cast

import torch
from torch.optim.swa_utils import AveragedModel

from training import optimization
from training.config import Config
from training.data.dataset import Dataset
from training.distributed import ProcessGroup
from training.models import autoencoders
from training.models.families import Network


@dataclass
class Progress:
    """How far a run is. Noise, order, rates and KL weight follow from the step, so they need no saving."""

    step: int = 0
    best_loss: float = inf
    best_epoch: int = 0
    seconds: float = 0.0
    """Spent in this epoch so far."""
    sums: dict[str, float] = field(default_factory=dict)
    """Of each measure over the images of this epoch so far."""
    history: list[dict[str, Any]] = field(default_factory=list)

    def count(self, measures: Mapping[str, float], seconds: float) -> None:
        """Add the measures of a step."""
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in measures.items()}
        self.seconds += seconds
        self.step += 1

    def end_epoch(self, epoch: int, validation: Mapping[str, float], learning_rate: float) -> dict[str, Any]:
        """Add the record of a finished epoch to the history, with means per image, and return it."""
        sums, seconds = self.sums, self.seconds
        images, steps = sums.pop("images"), sums.pop("steps")
        record = {
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


class TrainingState:
    """Everything that a step changes, and what it needs to know of the run."""

    def __init__(self, config: Config, dataset: Dataset, device: torch.device, group: ProcessGroup) -> None:
        self.config, self.device, self.group = config, device, group
        self.memory_format = torch.channels_last if config.model.channels else torch.contiguous_format
        self.steps_per_epoch = -(-len(dataset.train) // config.run.batch_size)
        self.steps = self.steps_per_epoch * config.run.epochs
        self.model = autoencoders.build(config.model, dataset.image_shape, dataset.classes)
        cast("Any", self.model).to(device, memory_format=self.memory_format)
        decay = config.run.ema_decay
        self.average = AveragedModel(self.model, multi_avg_fn=optimization.moving_average(decay)) if decay else None
        self.parameter_groups = self.model.parameter_groups()
        self.optimizers = optimization.optimizers(config.optimizer, self.parameter_groups)
        self.progress = Progress()

    @property
    def served_model(self) -> Network:
        """The network that is evaluated and saved: the moving average of the weights where one is kept."""
        return cast("Network", self.average.module) if self.average else self.model

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors; `load_state_dict` continues from them exactly."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "progress": asdict(self.progress),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.model.load_state_dict(saved["model"])
        if self.average:
            self.average.load_state_dict(saved["average"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(saved["optimizers"][name])
        self.progress = Progress(**saved["progress"])
