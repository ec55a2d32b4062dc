"""The clock: seconds of training until the held-out likelihood of MNIST passes certain figures; docs/clock.md.

`python -m training.reproduction.clock --data-dir DIR`
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from training import cpu
from training.config import Config
from training.data import dataset as data
from training.data.batches import shuffled_batches
from training.data.split import Split
from training.distributed import ProcessGroup
from training.evaluation import inference
from training.losses import objectives
from training.losses.importance_sampling import negative_log_likelihood
from training.models.families import Network
from training.random_streams import Draws, Purpose, generator
from training.recipe import load_recipe
from training.reproduction import records
from training.run.provenance import git_revision
from training.run.stop_request import StopRequest
from training.train import Trainer

PAGE, KEPT = Path("docs/clock.md"), Path("docs/results/clock.json")
# Fewer than in published figures: the bound of fewer samples is worse on average, never better.
SAMPLES = 100
# The bound of one sample is above the likelihood by less than this, once a network has learnt something.
_GAP = 6.0
_HELD_OUT = 1_000
_HEAD = """# The clock

How long training takes until the likelihood of MNIST passes certain figures, two of them published by others. `make
clock DATA_DIR=mnist` runs it and writes this page.

## The rules

- The clock runs while the network learns: random numbers, order, steps, moving average of the weights. It stands while
  Python and the data are loaded and while a network is judged; it starts with weights that were drawn at random, but
  for the decoder's last bias where a recipe has `run.pixel_means`: that is the mean of the training images.
- After each epoch the network is judged on held-out images ({held_out:,} of the 5,000 that are taken from the training
  images). When their figure is at most the goal the clock is read, and only then the 10,000 test images are looked at:
  their figure must be at most the goal too.
- 105.59 and 101.5 nats are the negative evidence lower bound of grey images, one sample an image, as PyTorch's example
  reports it (105.59 after 10 epochs; 101.5 is what our recipe `vae` promises). 90 and 86.76 nats are the negative
  log-likelihood of images that are binarised anew at every visit, here the bound of {samples} samples, which is on
  average above that of 5,000; 86.76 is that of the VAE of Burda et al. 2016, 90 what our recipe `vae-nll` promises.
- Any network with one level of latents may be used, and settings may be chosen for the goal; each run is one seed, that
  of its command. Threads are those of the command; CPU seconds are those of all threads.
- Seconds are by the wall clock. Where they exceed the CPU seconds, the machine did other work meanwhile.

| goal, nats | seconds | CPU seconds | epochs | held-out figure | test figure | run | date | machine | revision |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Race:
    """A recipe with settings for its goals, in nats."""

    recipe: str
    goals: tuple[float, ...]
    overrides: tuple[str, ...]

    def config(self, folder: str, threads: int) -> Config:
        """What is trained."""
        kind = "mnist" if folder else "digits"
        return load_recipe(self.recipe, kind, [*self.overrides, f"device.threads={threads}"], {"data": {"kind": kind}})


@dataclass(frozen=True)
class Lap:
    """A goal that was passed."""

    goal: float
    seconds: float
    cpu_seconds: float
    epochs: int
    held_out: float
    test: float
    run: str
    date: str
    machine: str
    revision: str


_GREY = ("loss.binarise=false", "loss.warm_up_epochs=0.5", "evaluation.nll_samples=0")
RACES = (
    Race("vae-flow", (105.59,), (*_GREY, "run.epochs=4", "optimizer.learning_rate=3e-3", "run.ema_decay=0.99")),
    Race("vae-flow", (101.5,), (*_GREY, "run.epochs=8", "run.ema_decay=0.99")),
    Race("vae-flow", (90.0,), ("run.epochs=9", "loss.warm_up_epochs=1", "run.ema_decay=0.99")),
    Race("vae-flow", (86.76,), ("run.epochs=20", "loss.warm_up_epochs=2", "run.ema_decay=0.995")),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 where a goal was not passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, help="folder of the MNIST files; without it, the page alone is written"
    )
    goals = [goal for race in RACES for goal in race.goals]
    parser.add_argument("--goals", type=float, nargs="*", choices=goals, default=goals, metavar="NATS")
    parser.add_argument("--threads", type=int, default=cpu.cores(), help="default: the number of cores, %(default)s")
    flags = parser.parse_args(arguments)
    missed: list[float] = []
    if flags.data_dir:
        cpu.keep_freed_memory()
        for race in RACES:
            wanted = tuple(goal for goal in race.goals if goal in flags.goals)
            laps = list(run(race, wanted, str(flags.data_dir), flags.threads)) if wanted else []
            keep(laps, KEPT)
            missed += [goal for goal in wanted if goal not in {lap.goal for lap in laps if lap.test <= goal}]
    PAGE.write_text(page(read(KEPT)), encoding="utf-8")
    return 1 if missed else 0


def run(race: Race, goals: Sequence[float], folder: str, threads: int) -> Iterable[Lap]:
    """Train until the last goal is passed or the epochs are over; the goals that were passed."""
    config = race.config(folder, threads)
    torch.set_num_threads(threads)
    dataset = data.load(config.data.model_copy(update={"folder": folder}))
    settings = [word for each in [*race.overrides, f"device.threads={threads}"] for word in ("--set", each)]
    command = f"python -m training {shlex.join([race.recipe, '--data', dataset.name, *settings])}"
    left = sorted(goals)
    with tempfile.TemporaryDirectory() as work:
        trainer = Trainer(config, dataset, Path(work), ProcessGroup(), StopRequest())
        trainer.draw_weights()
        wall = spent = 0.0
        for epoch in range(config.run.epochs):
            started = time.perf_counter(), time.process_time()
            for rows in shuffled_batches(config.run.seed, epoch, len(dataset.train), config.run.batch_size):
                trainer.step(rows)
            wall, spent = wall + time.perf_counter() - started[0], spent + time.process_time() - started[1]
            model = trainer.state.served_model.eval()
            held_out = _figure(model, dataset.validation.take(slice(_HELD_OUT)), config, left[-1])
            print(
                f"epoch {epoch + 1}/{config.run.epochs}: {wall:.1f} s, {spent:.1f} s of CPU time, {held_out:.2f} nats",
                flush=True,
            )
            while left and held_out <= left[-1]:
                test = _figure(model, dataset.test, config, left[-1])
                print(f"{left[-1]:g} nats: test {test:.2f}", flush=True)
                yield _lap(left.pop(), (wall, spent), epoch + 1, (held_out, test), command)
            model.train()
            if not left:
                return


def _lap(goal: float, seconds: tuple[float, float], epochs: int, figures: tuple[float, float], command: str) -> Lap:
    today, revision = datetime.now(UTC).date().isoformat(), git_revision()[:12]
    return Lap(goal, *seconds, epochs, *figures, command, today, records.machine(), revision)


def _figure(model: Network, split: Split, config: Config, goal: float) -> float:
    """Nats per image: the negative bound of grey images; of binary ones, once it is near, the likelihood."""
    bound = _mean(model, split, config, 1)
    return bound if not config.loss.binarise or bound > goal + _GAP else _mean(model, split, config, SAMPLES)


@torch.no_grad()
def _mean(model: Network, split: Split, config: Config, samples: int) -> float:
    source, total = generator(0, Purpose.TEST), 0.0
    for images in inference.batches(split):
        draws = Draws.whole_batch(source, len(images), inference.CPU)
        judged = objectives.binarised(images, draws) if config.loss.binarise else images
        if samples > 1:
            total += float(negative_log_likelihood(model, judged, draws, samples).sum())
            continue
        measures = objectives.variational(model, objectives.Inputs(judged, None, draws, config.loss, 1.0)).measures
        total += float((measures["reconstruction"] + measures["kl"]).double().sum())
    return total / len(split)


def keep(laps: Iterable[Lap], path: Path) -> None:
    """Replace the laps of the same goals in a file."""
    known = {lap.goal: lap for lap in [*read(path), *laps]}
    if known:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([asdict(lap) for lap in known.values()], indent=2) + "\n", encoding="utf-8")


def read(path: Path) -> list[Lap]:
    """The laps in a file; none where there is none."""
    return [Lap(**each) for each in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def page(laps: Iterable[Lap]) -> str:
    """docs/clock.md: a row for each goal."""
    known = {lap.goal: lap for lap in laps}
    goals = sorted({goal for race in RACES for goal in race.goals}, reverse=True)
    head = _HEAD.format(held_out=_HELD_OUT, samples=SAMPLES)
    return head + "".join(_row(goal, known.get(goal)) for goal in goals)


def _row(goal: float, lap: Lap | None) -> str:
    if lap is None:
        return f"| {goal:g} | not yet run |" + " |" * 8 + "\n"
    figures = f"{lap.held_out:.2f} | {lap.test:.2f}{'' if lap.test <= goal else ' (missed)'}"
    times = f"{lap.seconds:.1f} | {lap.cpu_seconds:.1f} | {lap.epochs}"
    return f"| {goal:g} | {times} | {figures} | `{lap.run}` | {lap.date} | {lap.machine} | {lap.revision} |\n"


if __name__ == "__main__":
    sys.exit(main())
