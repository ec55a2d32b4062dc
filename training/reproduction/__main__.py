"""Trains every CPU recipe on MNIST, some side by side, and writes docs/results.md from what really ran.

`python -m training.reproduction --data-dir DIR`; runs that are finished are kept, an interrupted one goes on.
"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from training.errors import TrainingError
from training.reproduction import records, results_page
from training.reproduction import runs as plan
from training.reproduction.runs import Planned
from training.reproduction.subprocesses import Processes

# The recipe whose latent space the attributes are shown on.
WITH_ATTRIBUTES = "vae"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 where a run has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder of the MNIST files; without it only the page is written")
    parser.add_argument("--runs", type=Path, default=Path("runs/mnist"), help="where runs go (default: %(default)s)")
    names = [each.name for each in plan.RUNS]
    on_cpu = [each.name for each in plan.RUNS if each.on_cpu]
    parser.add_argument(
        "--recipes", nargs="*", choices=names, default=on_cpu, metavar="NAME", help="default: all that a CPU can train"
    )
    parser.add_argument("--jobs", type=int, default=cores(), help="runs side by side (default: the cores, %(default)s)")
    flags = parser.parse_args(arguments)
    complete = True
    if flags.data_dir:
        workshop = Workshop(flags.runs, flags.jobs, "mnist", flags.data_dir)
        complete = workshop.train([each for each in plan.RUNS if each.name in flags.recipes])
    results_page.publish(flags.runs)
    return 0 if complete else 1


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Workshop:
    """Trains `jobs` runs at a time in folders of `runs`, each in a process of its own whose output goes to NAME.log.

    Small networks gain little from a second thread, whole runs side by side all of it: so what a recipe leaves to
    PyTorch becomes its share of the cores.
    """

    runs: Path
    jobs: int
    kind: str
    data_dir: Path | None = None
    processes: Processes = field(default_factory=Processes)

    def train(self, wanted: Sequence[Planned]) -> bool:
        """Trains what is not finished yet, the longest first so that none begins last; whether all is finished then."""
        todo = [each for each in wanted if not (self.runs / each.name / records.RECORD).exists()]
        todo.sort(key=lambda each: each.config.expected.minutes, reverse=True)
        self.runs.mkdir(parents=True, exist_ok=True)
        with self.processes.stopped_by(signal.SIGINT, signal.SIGTERM), ThreadPoolExecutor(self.jobs) as pool:
            return all(list(pool.map(self.try_one, todo)))

    def try_one(self, planned: Planned) -> bool:
        """Trains and says so; whether that went well. A run that fails takes no other with it."""
        if self.processes.stopping:
            return False
        log = self.runs / f"{planned.name}.log"
        say(f"{planned.name}: begins, {planned.config.expected.minutes:g} minutes of a quiet core; see {log}")
        try:
            self.run(planned, log)
        except TrainingError as error:
            say(f"{planned.name}: {error}; see {log}")
            return False
        record = records.read(self.runs / planned.name / records.RECORD)
        figures = results_page.figures(planned.config, record)
        say(f"{planned.name}: {figures}; {', '.join(results_page.spent(record.cost))}")
        return True

    def run(self, planned: Planned, log: Path) -> None:
        """Trains in a process of its own and notes what that took.

        Raises:
            TrainingError: it failed, or was stopped.
        """
        out = self.runs / planned.name
        resumed = (out / "latest").exists()
        words = [planned.recipe, *self.source(str(self.data_dir)), "--out", str(out), *self.settings(planned)]
        cost = self.processes.spend([*words, "--resume"], log, resumed=resumed)
        if planned.name == WITH_ATTRIBUTES:
            folder = ["--data-dir", str(self.data_dir)] if self.data_dir else []
            self.processes.spend(["attributes", str(out), *folder], log, resumed=False)
        shown = [planned.recipe, *self.source("DIR"), "--out", "DIR", *self.settings(planned)]
        records.write(out, f"python -m training {shlex.join(shown)}", cost)

    def source(self, folder: str) -> list[str]:
        """The words that name the data."""
        return ["--data", self.kind, *(["--data-dir", folder] if self.data_dir else [])]

    def settings(self, planned: Planned) -> list[str]:
        """The words that set what is not as the recipe has it."""
        share = [] if planned.config.device.threads else [f"device.threads={max(1, cores() // self.jobs)}"]
        return [word for override in [*planned.overrides, *share] for word in ("--set", override)]


def say(line: str) -> None:
    """Tells how far things are, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
