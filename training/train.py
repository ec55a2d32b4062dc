"""The loop: `train(config, workdir)`."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from training import checkpoint, data, models, objectives, optimization, provenance
from training.config import Config
from training.data import Dataset
from training.errors import TrainingError
from training.feed import Feed, order
from training.finish import finish
from training.journal import Journal
from training.noise import Noise, Purpose, generator, whole

EVALUATION_BATCH = 1_000


@dataclass
class Progress:
    """Where a run stands; with weights and optimizers it is all that a resumed run needs."""

    step: int = 0
    best_loss: float = inf
    best_epoch: int = 0
    sums: Counter[str] = field(default_factory=Counter)
    """Of each measure over the images of this epoch so far."""
    history: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """One run of one configuration on one data set."""

    def __init__(self, config: Config, dataset: Dataset, workdir: Path) -> None:
        self.config, self.dataset, self.workdir = config, dataset, workdir
        self.device = pick_device(config.device.name)
        self.model = models.build(config.model, dataset.image_shape, dataset.classes)
        self.progress = Progress()
        self.journal = Journal(workdir)
        layout = torch.channels_last if config.model.channels else torch.contiguous_format
        self.training = Feed(dataset.train, self.device, layout)
        self.validation = Feed(dataset.validation, self.device, layout)
        self.steps_per_epoch = -(-len(dataset.train) // config.run.batch_size)
        self.steps = self.steps_per_epoch * config.run.epochs

    def run(self) -> None:
        """Trains until the last epoch."""
        self.journal.restart(self.progress.history)
        models.initialise(self.model, generator(self.config.run.seed, Purpose.WEIGHTS))
        self.model.to(self.device)
        self.teams = optimization.players(self.model)
        self.optimizers = optimization.optimizers(self.config.optimizer, self.teams)
        for epoch in range(self.config.run.epochs):
            self._epoch(epoch)

    def _epoch(self, epoch: int) -> None:
        started = time.perf_counter()
        batches = order(self.config.run.seed, epoch, len(self.training), self.config.run.batch_size)
        done = self.progress.step - epoch * self.steps_per_epoch
        with tqdm(batches[done:], initial=done, total=len(batches), desc=self._title(epoch), unit="batch") as bar:
            for rows in bar:
                measures = self._step(rows)
                self.progress.sums.update(measures)
                bar.set_postfix({"nats": f"{measures['loss'] / len(rows):.2f}"}, refresh=False)
            self._end_epoch(epoch, time.perf_counter() - started, bar)

    def _step(self, rows: Tensor) -> dict[str, float]:
        """One optimizer step; the sums of the measures over the batch."""
        images, labels = self.training.batch(rows)
        draws = whole(generator(self.config.run.seed, Purpose.STEP, self.progress.step), len(rows), self.device)
        outcome = self._outcome(images, labels, draws)
        losses = {name: loss.sum() / len(rows) for name, loss in outcome.losses.items()}
        grads = optimization.gradients(losses, self.teams)
        norm = torch.nn.utils.get_total_norm(grads)
        sums = {name: values.detach().sum() for name, values in outcome.measures.items()}
        values = dict(zip([*sums, "gradient_norm"], torch.stack([*sums.values(), norm]).tolist(), strict=True))
        self._refuse_infinite(values, rows)
        optimization.clip(grads, values["gradient_norm"], self.config.optimizer.clip_norm)
        self._move()
        return {**values, "images": len(rows), "steps": 1}

    def _outcome(self, images: Tensor, labels: Tensor | None, draws: Noise) -> objectives.Outcome:
        weight = optimization.kl_weight(self.config.loss, self.progress.step, self.steps_per_epoch)
        return objectives.evaluate(self.model, images, labels, draws, self.config.loss, weight)

    def _move(self) -> None:
        rate = optimization.learning_rate(self.config.optimizer, self.progress.step, self.steps)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        self.progress.step += 1

    def _refuse_infinite(self, values: Mapping[str, float], rows: Tensor) -> None:
        """Raises before the step, so that the weights stay good."""
        bad = [name for name, value in values.items() if not isfinite(value)]
        if bad:
            where = f"step {self.progress.step}, training rows {rows.tolist()}"
            raise TrainingError(f"{', '.join(bad)} is not finite at {where}: lower optimizer.learning_rate")

    def _end_epoch(self, epoch: int, seconds: float, bar: Any) -> None:  # noqa: ANN401  a tqdm of any kind
        validation = self.validate()
        record = self._record(epoch, seconds, validation)
        self.progress.history.append(record)
        self.journal.append(record)
        bar.set_postfix({"nats": f"{record['train']['loss']:.2f}", "validation": f"{validation['loss']:.2f}"})
        if validation["loss"] < self.progress.best_loss:
            self.progress.best_loss, self.progress.best_epoch = validation["loss"], epoch + 1
            self._save_best(validation)
        self.progress.sums.clear()

    def _record(self, epoch: int, seconds: float, validation: Mapping[str, float]) -> dict[str, Any]:
        sums = dict(self.progress.sums)
        images, steps = sums.pop("images"), sums.pop("steps")
        norm = sums.pop("gradient_norm") / steps
        return {
            "epoch": epoch + 1,
            "step": self.progress.step,
            "train": {name: value / images for name, value in sums.items()},
            "validation": dict(validation),
            "gradient_norm": norm,
            "learning_rate": optimization.learning_rate(self.config.optimizer, self.progress.step - 1, self.steps),
            "seconds": seconds,
            "images_per_second": images / seconds,
        }

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The training objective, KL at its full weight, on the validation split with the same noise every time."""
        source = generator(0, Purpose.VALIDATION)
        sums: Counter[str] = Counter()
        for rows in torch.arange(len(self.validation)).split(EVALUATION_BATCH):
            images, labels = self.validation.batch(rows)
            draws = whole(source, len(rows), self.device)
            outcome = objectives.evaluate(self.model, images, labels, draws, self.config.loss, self.config.loss.beta)
            sums.update({name: float(values.double().sum()) for name, values in outcome.measures.items()})
        return {name: value / len(self.validation) for name, value in sums.items()}

    def _save_best(self, validation: Mapping[str, float]) -> None:
        weights = self.model.state_dict()
        metrics = {f"validation_{name}": value for name, value in validation.items()}
        meta = provenance.describe(self.config, self.dataset, self.progress.step, self.progress.best_epoch, metrics)
        write(self.workdir / "best", checkpoint.files(weights, meta, provenance.reference(self.dataset), None))

    def _title(self, epoch: int) -> str:
        return f"{self.config.name} epoch {epoch + 1}/{self.config.run.epochs}"


def train(config: Config, workdir: Path) -> Path:
    """Trains a configuration into the folder `workdir`; gives the best checkpoint's folder.

    Raises:
        InputError: the data or the settings are unusable.
        TrainingError: a loss is not finite, or nothing can be written.
    """
    dataset = data.load(config.data)
    trainer = Trainer(config, dataset, workdir)
    trainer.run()
    finish(config, dataset, workdir)
    return workdir / "best"


def write(folder: Path, contents: Mapping[str, bytes]) -> None:
    """As `checkpoint.write`, failures told as TrainingError."""
    try:
        checkpoint.write(folder, contents)
    except OSError as error:
        raise TrainingError(f"cannot write {folder}: {error}; the checkpoint before it is kept") from error


def pick_device(name: str) -> torch.device:
    """The device that the settings name; `auto` is CUDA where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device cuda wanted, no CUDA device found: use --device cpu, or a CUDA build of PyTorch")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
