"""The loop: `train(config, workdir)`."""

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from math import inf, isfinite
from pathlib import Path
from threading import Event
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from training import optimization
from training.config import Config
from training.data import dataset as data
from training.data import inspect
from training.data.batches import Feed, order
from training.data.dataset import Dataset
from training.distributed import Team, assemble
from training.errors import ConfigError, StoppedError, TrainingError
from training.losses import objectives
from training.models import autoencoders
from training.random_streams import Noise, Purpose, generator, whole
from training.run.directory import Workspace
from training.run.finalize import finish
from training.run.metrics_log import Journal

EVALUATION_BATCH = 1_000


@dataclass
class Progress:
    """Where a run stands. Noise, order, rates and KL weight follow from the step, so they need no saving."""

    step: int = 0
    best_loss: float = inf
    best_epoch: int = 0
    seconds: float = 0.0
    """Spent in this epoch so far."""
    sums: dict[str, float] = field(default_factory=dict)
    """Of each measure over the images of this epoch so far."""
    history: list[dict[str, Any]] = field(default_factory=list)

    def count(self, measures: Mapping[str, float], seconds: float) -> None:
        """Adds the measures of a step."""
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in measures.items()}
        self.seconds += seconds
        self.step += 1


class Trainer:
    """One run of one configuration on one data set, alone or as one of a team."""

    def __init__(self, config: Config, dataset: Dataset, workdir: Path, team: Team, stop: Event) -> None:
        self.config, self.team, self.stop = config, team, stop
        self.device = pick_device(config.device.name)
        self.workspace = Workspace(workdir, config, dataset)
        self.journal = Journal(workdir, tensorboard=config.output.tensorboard)
        layout = torch.channels_last if config.model.channels else torch.contiguous_format
        self.training = Feed(dataset.train, self.device, layout)
        self.validation = Feed(dataset.validation, self.device, layout)
        self.steps_per_epoch = -(-len(dataset.train) // config.run.batch_size)
        self.steps = self.steps_per_epoch * config.run.epochs
        self.model = autoencoders.build(config.model, dataset.image_shape, dataset.classes)
        self.model.to(self.device, memory_format=layout)
        decay = config.run.ema_decay
        self.average = AveragedModel(self.model, multi_avg_fn=optimization.moving_average(decay)) if decay else None
        self.players = optimization.players(self.model)
        self.optimizers = optimization.optimizers(config.optimizer, self.players)
        self.progress = Progress()
        self.saved_at = time.monotonic()
        self.stopping = False

    def run(self, *, resume: bool = False) -> None:
        """Trains until the last epoch, from the start or from the last save.

        Raises:
            StoppedError: `stop` was set; everything is saved.
            TrainingError: a loss is not finite, or nothing can be written.
        """
        state = self.workspace.restore(self.device) if resume else None
        if state is None:
            source = generator(self.config.run.seed, Purpose.WEIGHTS)
            autoencoders.initialise(self.model, source, self.config.run.code_spread)
            # A full disk shall be known now, not when there is something to lose.
            self._save_latest()
        else:
            self._load_state(state)
        if self.team.leads:
            self.journal.restart(self.progress.history)
        if self.config.device.compile:
            for part in self.model.children():
                part.compile()
        self._epochs()
        self._save_latest()

    def _epochs(self) -> None:
        with tqdm(total=self.steps, initial=self.progress.step, unit="step", disable=not self.team.leads) as bar:
            while self.progress.step < self.steps and not self._out_of_patience():
                epoch = self.progress.step // self.steps_per_epoch
                bar.set_description(f"{self.config.name} epoch {epoch + 1}/{self.config.run.epochs}")
                self._epoch(epoch, bar)

    def _epoch(self, epoch: int, bar: Any) -> None:  # noqa: ANN401  a tqdm of any kind
        """What is left of an epoch, then its validation."""
        run = self.config.run
        batches = order(run.seed, epoch, len(self.training), run.batch_size)
        for rows in batches[self.progress.step - epoch * self.steps_per_epoch :]:
            started = time.perf_counter()
            measures = self.train_batch(rows)
            self.progress.count(measures, time.perf_counter() - started)
            bar.set_postfix(nats=f"{measures['loss'] / len(rows):.2f}", refresh=False)
            bar.update()
            # A save after the last batch must hold the epoch's validation too.
            if rows is batches[-1]:
                self._end_epoch(epoch)
            self._save_when_due()

    def train_batch(self, rows: Tensor) -> dict[str, float]:
        """One optimizer step on a batch, given by its rows; the sums of the measures over it."""
        outcome = self._outcome(rows)
        losses = {name: loss.sum() / len(rows) for name, loss in outcome.losses.items()}
        grads = optimization.gradients(losses, self.players)
        self.team.add(grads)
        norm = torch.nn.utils.get_total_norm(grads)
        names = [*outcome.measures, "stop"]
        sums = torch.stack([*(values.detach().sum() for values in outcome.measures.values()), self._stop_wanted()])
        self.team.add([sums])
        values = dict(zip([*names, "gradient_norm"], [*sums.tolist(), float(norm)], strict=True))
        self.stopping = values.pop("stop") > 0
        self._refuse_infinite(values, rows)
        optimization.clip(grads, values["gradient_norm"], self.config.optimizer.clip_norm)
        self._move()
        return {**values, "images": len(rows), "steps": 1}

    def _outcome(self, rows: Tensor) -> objectives.Outcome:
        """This process's share of the batch through the model."""
        share = self.team.share(len(rows))
        source = generator(self.config.run.seed, Purpose.STEP, self.progress.step)
        draws = Noise(source, len(rows), share.start, share.stop, self.device)
        weight = optimization.kl_weight(self.config.loss, self.progress.step, self.steps_per_epoch)
        with self._precision():
            images, labels = self.training.batch(rows[share])
            return objectives.evaluate(self.model, images, labels, draws, self.config.loss, weight)

    def _precision(self) -> AbstractContextManager[object]:
        """bfloat16 where it pays: matrix products and convolutions on a GPU; losses stay float32."""
        lower = self.config.device.precision == "bfloat16" or (
            self.config.device.precision == "auto" and self.device.type == "cuda"
        )
        return torch.autocast(self.device.type, torch.bfloat16, enabled=lower)

    def _stop_wanted(self) -> Tensor:
        return torch.tensor(float(self.stop.is_set()), device=self.device)

    def _refuse_infinite(self, values: Mapping[str, float], rows: Tensor) -> None:
        """Raises before the optimizer's step, so that the weights stay good."""
        bad = [name for name, value in values.items() if not isfinite(value)]
        if bad:
            where = f"step {self.progress.step}, training images {rows.tolist()}"
            raise TrainingError(f"{', '.join(bad)} is not finite at {where}; try a lower optimizer.learning_rate")

    def _move(self) -> None:
        rate = optimization.learning_rate(self.config.optimizer, self.progress.step, self.steps)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        if self.average:
            self.average.update_parameters(self.model)

    def _end_epoch(self, epoch: int) -> None:
        validation = self.validate()
        record = self._record(epoch, validation)
        self.progress.history.append(record)
        self.progress.sums, self.progress.seconds = {}, 0.0
        better = validation["loss"] < self.progress.best_loss - self.config.run.min_delta
        if self._warm(epoch) and (better or self.config.run.keep == "last"):
            self.progress.best_loss, self.progress.best_epoch = validation["loss"], epoch + 1
            if self.team.leads:
                self._save("best")
        if self.team.leads:
            self.journal.append(record)

    def _record(self, epoch: int, validation: Mapping[str, float]) -> dict[str, Any]:
        sums = dict(self.progress.sums)
        images, steps, seconds = sums.pop("images"), sums.pop("steps"), self.progress.seconds
        return {
            "epoch": epoch + 1,
            "step": self.progress.step,
            "gradient_norm": sums.pop("gradient_norm") / steps,
            "train": {name: value / images for name, value in sums.items()},
            "validation": dict(validation),
            "learning_rate": optimization.learning_rate(self.config.optimizer, self.progress.step - 1, self.steps),
            "seconds": seconds,
            "images_per_second": images / seconds,
        }

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The training objective, the KL at its full weight, on the validation split with the same noise each time."""
        model = self._served()
        source = generator(0, Purpose.VALIDATION)
        sums: Counter[str] = Counter()
        for rows in torch.arange(len(self.validation)).split(EVALUATION_BATCH):
            images, labels = self.validation.batch(rows)
            draws = whole(source, len(rows), self.device)
            outcome = objectives.evaluate(model, images, labels, draws, self.config.loss.judged, self.config.loss.beta)
            sums.update({name: float(values.double().sum()) for name, values in outcome.measures.items()})
        means = torch.tensor([value / len(self.validation) for value in sums.values()], dtype=torch.float64)
        return dict(zip(sums, self.team.agree(means.to(self.device)).tolist(), strict=True))

    def _warm(self, epoch: int) -> bool:
        """Whether the KL has its full weight, before which losses are not comparable; the last epoch always counts."""
        return epoch + 1 >= min(self.config.loss.warm_up_epochs, self.config.run.epochs)

    def _out_of_patience(self) -> bool:
        since = len(self.progress.history) - self.progress.best_epoch
        return bool(self.progress.best_epoch and self.config.run.patience and since >= self.config.run.patience)

    def _save_when_due(self) -> None:
        """Saves at intervals, inside an epoch too, and when any process was asked to stop."""
        if self.stopping or time.monotonic() - self.saved_at >= self.config.output.save_seconds:
            self._save_latest()
        if self.stopping:
            raise StoppedError(f"stopped at step {self.progress.step}, saved; go on with --resume")

    def _save_latest(self) -> None:
        if self.team.leads:
            self._save("latest", self._state())
        self.saved_at = time.monotonic()

    def _save(self, name: str, state: Mapping[str, Any] | None = None) -> None:
        validation = self.progress.history[-1]["validation"] if self.progress.history else {}
        metrics = {f"validation_{measure}": value for measure, value in validation.items()}
        epoch = len(self.progress.history)
        self.workspace.save(name, self._served().state_dict(), self.progress.step, epoch, metrics, state)

    def _served(self) -> autoencoders.Network:
        """The network that the run is about: the moving average of the weights where one is kept."""
        return self.average.module if self.average else self.model

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "progress": asdict(self.progress),
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.progress = Progress(**state["progress"])


def train(
    config: Config, workdir: Path, *, resume: bool = False, overwrite: bool = False, stop: Event | None = None
) -> Path:
    """Trains a configuration into the folder `workdir`; gives the best checkpoint's folder.

    Raises:
        InputError: the data or the settings are unusable, or `workdir` holds another run.
        StoppedError: `stop` was set; `resume` goes on.
        TrainingError: a loss is not finite, or nothing can be written.
    """
    if config.device.threads:
        torch.set_num_threads(config.device.threads)
    dataset = data.load(config.data)
    described = inspect.describe(dataset)
    with assemble(pick_device(config.device.name)) as team:
        trainer = Trainer(config, dataset, workdir, team, stop or Event())
        if team.leads:
            logging.getLogger(__name__).info(described)
            trainer.workspace.open(resume=resume, overwrite=overwrite)
        team.wait()
        trainer.run(resume=resume)
    # The others need not wait: measuring may take longer than processes wait for each other.
    if team.leads:
        finish(config, dataset, workdir)
    return workdir / "best"


def pick_device(name: str) -> torch.device:
    """The device that the settings name; `auto` is CUDA where there is one: to each process of a machine its own."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda expected, no CUDA device found: use --device cpu, or a CUDA build of PyTorch")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
