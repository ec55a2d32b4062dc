"""The training loop: epochs, validation, early stopping, checkpoints, progress; `train(config, workdir)`."""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from training.config import Config
from training.data import dataset as data
from training.data import inspect
from training.data.batches import InMemoryBatches, shuffled_batches
from training.data.dataset import Dataset
from training.data.photos.crops import RandomCrops
from training.distributed import ProcessGroup, pick_device, process_group
from training.errors import StoppedError, TrainingError
from training.evaluation.inference import rows_at_once
from training.losses import objectives
from training.models import initial_weights
from training.random_streams import Draws, Purpose, generator
from training.run import preflight
from training.run.directory import RunDirectory
from training.run.metrics_log import MetricsLog
from training.run.stop_request import StopRequest
from training.state import TrainingState
from training.step import Measures, load_batch, train_step

_logger = logging.getLogger(__name__)


class Trainer:
    """One run of one configuration on one data set, in one process or as one of a group."""

    def __init__(self, config: Config, dataset: Dataset, workdir: Path, group: ProcessGroup, stop: Event) -> None:
        self.state = TrainingState(config, dataset, pick_device(config.device.name), group)
        preflight.check_batches(config, len(dataset.train), group.size, self.state.rows_at_once)
        self.directory = RunDirectory(workdir, config, dataset)
        self._config, self._group, self._stop = config, group, stop
        self._log = MetricsLog(workdir, tensorboard=config.output.tensorboard)
        device, memory_format = self.state.device, self.state.memory_format
        self._training = (
            RandomCrops(dataset.pictures, dataset.train.labels, device, memory_format)
            if dataset.pictures
            else InMemoryBatches(dataset.train, device, memory_format)
        )
        self._validation = InMemoryBatches(dataset.validation, device, memory_format)
        self._saved_at = time.monotonic()
        self._clock = time.process_time if device.type == "cpu" else time.monotonic
        self._counted_at = 0.0
        self._stopping = False

    def run(self, *, resume: bool = False) -> None:
        """Train until the last epoch or the end of the budget, from the start or from the last save.

        Raises:
            StoppedError: `stop` was set; everything is saved.
            TrainingError: a loss is not finite, or nothing can be written.
        """
        saved = self.directory.restore(self.state.device) if resume else None
        if saved is None:
            if resume and self._group.is_main:
                _logger.info("nothing saved in --out: the run begins")
            self.draw_weights()
            # A full disk should be noticed now, not when there is something to lose.
            self._save_latest()
        else:
            self.state.load_state_dict(saved)
            if self._group.is_main:
                _logger.info("going on after step %d", self.state.progress.step)
        if self._group.is_main:
            self._log.restart(self.state.progress.history)
        if self._config.device.compile:
            for part in self.state.model.children():
                part.compile()
        self._counted_at = self._clock()
        with logging_redirect_tqdm():
            self._train_epochs()
        self._save_latest()
        if not self.state.progress.best_epoch:
            raise TrainingError("the validation loss was finite in no epoch; try a lower optimizer.learning_rate")

    def draw_weights(self) -> None:
        """Draw the first weights; a network of the user's own has drawn its own."""
        if not self._config.model.network:
            source = generator(self._config.run.seed, Purpose.WEIGHTS)
            initial_weights.initialise(self.state.model, source, self._config.run.code_spread)
        if self._config.run.pixel_means and isinstance(self._training, InMemoryBatches):
            initial_weights.start_at(self.state.model, self._training.mean())

    def step(self, rows: Tensor) -> Measures:
        """One optimizer step on the rows (N,) of the training split; the sums of the measures over them."""
        started = time.perf_counter()
        batch = load_batch(self.state, self._training, rows, stop=self._stop.is_set(), spent=self._spent())
        measures = train_step(self.state, batch)
        self._stopping = measures.pop("stop") > 0
        self.state.progress.spent += measures.pop("spent")
        self.state.progress.count(measures, time.perf_counter() - started)
        return measures

    def _spent(self) -> float:
        """Seconds of the budget since the last call; of all that a run does, validation and saving too."""
        if not self.state.budget:
            return 0.0
        before, self._counted_at = self._counted_at, self._clock()
        return self._counted_at - before

    def _train_epochs(self) -> None:
        progress, steps = self.state.progress, self.state.steps
        # None: a bar in a terminal only. In a file its carriage returns would make one line of the whole run.
        hidden = None if self._group.is_main else True
        with tqdm(total=steps, initial=progress.step, unit="step", disable=hidden) as bar:
            while not self.state.is_over and not self._early_stopping():
                epoch = progress.step // self.state.steps_per_epoch
                bar.set_description(f"{self._config.name} {self._place(epoch)}")
                self._train_epoch(epoch, bar)

    def _train_epoch(self, epoch: int, bar: Any) -> None:  # noqa: ANN401 (a tqdm of any kind)
        """What is left of an epoch, then its validation."""
        run, done = self._config.run, self.state.progress.step - epoch * self.state.steps_per_epoch
        batches = shuffled_batches(run.seed, epoch, len(self._training), run.batch_size)
        for rows in batches[done:]:
            measures = self.step(rows)
            bar.set_postfix(nats=f"{measures['loss'] / len(rows):.2f}", refresh=False)
            bar.update()
            # A save after the last batch must hold the epoch's validation too.
            if over := rows is batches[-1] or self.state.is_over:
                self._end_epoch(epoch)
            self._save_when_due()
            if over:
                return

    def _end_epoch(self, epoch: int) -> None:
        progress, validation = self.state.progress, self._validate()
        rate = self.state.learning_rate(progress.step - 1)
        record = progress.end_epoch(epoch + 1, validation, rate)
        better = validation["loss"] < progress.best_loss - self._config.run.min_delta
        if self._kl_has_full_weight(epoch) and (better or self._config.run.keep == "last"):
            progress.best_loss, progress.best_epoch = validation["loss"], epoch + 1
            if self._group.is_main:
                self._save("best")
        if self._group.is_main:
            self._log.append(record)
            _logger.info("%s: %s", self._place(epoch), _line(record))

    def _place(self, epoch: int) -> str:
        """How far the run is."""
        if not self.state.budget:
            return f"epoch {epoch + 1}/{self._config.run.epochs}"
        return f"epoch {epoch + 1}, {self.state.progress.spent / 60:.1f} of {self._config.run.minutes:g} minutes"

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """The training objective, the KL at its full weight, on the validation split with the same noise each time."""
        source, loss = generator(0, Purpose.VALIDATION), self._config.loss
        sums: Counter[str] = Counter()
        model = self.state.served_model.eval()
        at_once = rows_at_once(self._validation.images.shape[1:], loss.importance_samples)
        if loss.total_correlation != 1:
            # Its estimate depends on how many images are compared: as many as in training.
            at_once = self._config.run.batch_size // self._group.size
        for rows in torch.arange(len(self._validation)).split(at_once):
            images, labels = self._validation.batch(rows)
            draws = Draws.whole_batch(source, len(rows), self.state.device)
            outcome = objectives.evaluate(model, images, labels, draws, loss.judged, loss.beta)
            sums.update({name: float(values.double().sum()) for name, values in outcome.measures.items()})
        model.train()
        means = torch.tensor([value / len(self._validation) for value in sums.values()], dtype=torch.float64)
        return dict(zip(sums, self._group.broadcast(means.to(self.state.device)).tolist(), strict=True))

    def _kl_has_full_weight(self, epoch: int) -> bool:
        """Whether losses are comparable, which they are not during the warm-up; the last epoch always counts."""
        return epoch + 1 >= min(self._config.loss.warm_up_epochs, self._config.run.epochs)

    def _early_stopping(self) -> bool:
        """Whether the validation loss has not improved for `run.patience` epochs."""
        progress, patience = self.state.progress, self._config.run.patience
        return bool(progress.best_epoch and patience and len(progress.history) - progress.best_epoch >= patience)

    def _save_when_due(self) -> None:
        """Save at intervals, inside an epoch too, and when any process was asked to stop."""
        if self._stopping or time.monotonic() - self._saved_at >= self._config.output.save_seconds:
            self._save_latest()
        if self._stopping:
            raise StoppedError(f"stopped at step {self.state.progress.step}, saved; go on with --resume")

    def _save_latest(self) -> None:
        if self._group.is_main:
            self._save("latest", self.state.state_dict())
        self._saved_at = time.monotonic()

    def _save(self, name: str, saved: Mapping[str, Any] | None = None) -> None:
        history = self.state.progress.history
        validation = history[-1]["validation"] if history else {}
        metrics = {f"validation_{measure}": value for measure, value in validation.items()}
        weights = self.state.served_model.state_dict()
        self.directory.save(name, weights, self.state.progress.step, len(history), metrics, saved)


def train(
    config: Config, workdir: Path, *, resume: bool = False, overwrite: bool = False, stop: StopRequest | None = None
) -> Path:
    """Train a configuration into the directory `workdir`; the directory of the best checkpoint.

    Raises:
        InputError: the data or the settings are unusable, or do not fit each other; or `workdir` holds another run.
        StoppedError: `stop` was set; `resume` goes on.
        TrainingError: a loss is not finite, or nothing can be written.
    """
    if config.device.threads:
        torch.set_num_threads(config.device.threads)
    dataset = data.load(config.data)
    described = inspect.describe(dataset)
    preflight.check(config, dataset)
    stop = stop or StopRequest()
    with process_group(pick_device(config.device.name)) as group:
        trainer = Trainer(config, dataset, workdir, group, stop)
        if group.is_main:
            _logger.info(described)
            trainer.directory.open(resume=resume, overwrite=overwrite)
        group.barrier()
        with stop.noticed_between_steps():
            trainer.run(resume=resume)
    # The others need not wait: evaluation may take longer than the timeout of the group.
    if group.is_main:
        from training.run.finalize import finalize  # noqa: PLC0415 (loads scikit-learn and matplotlib: 2 s)

        finalize(config, dataset, workdir)
    return workdir / "best"


def _line(record: Mapping[str, Any]) -> str:
    """An epoch as a line of the log."""
    train, validation = (record[split]["loss"] for split in ("train", "validation"))
    losses = f"train {train:.5g}, validation {validation:.5g} nats per image"
    return f"{losses}, {record['seconds']:.1f} s"
