"""Reproduction: train every CPU recipe on MNIST, several in parallel, and write docs/results.md from finished runs.

`python -m training.reproduction --data-dir DIR`; finished runs are kept, interrupted ones are resumed.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from training.cpu import cores
from training.errors import TrainingError
from training.reproduction import records, results_page, spread
from training.reproduction.runs import RUNS, RunSpec, run_name, with_seeds
from training.reproduction.subprocesses import Processes

# The recipe whose latent space the attributes are shown on.
_WITH_ATTRIBUTES = "vae"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 where a run has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, help="folder of the MNIST files; without it, only docs/results.md is written"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/mnist"), help="folder of the runs (default: %(default)s)"
    )
    names = [each.name for each in RUNS]
    on_cpu = [each.name for each in RUNS if each.on_cpu]
    parser.add_argument(
        "--recipes", nargs="*", choices=names, default=on_cpu, metavar="NAME", help="default: all that train on a CPU"
    )
    parser.add_argument(
        "--jobs", type=int, default=cores(), help="parallel runs (default: the number of cores, %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs of each recipe, from seed 0 on (default: 1)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="publish nothing: compare the figures of --runs with the prediction intervals of those published",
    )
    flags = parser.parse_args(arguments)
    if flags.seeds < 1:
        parser.error(f"--seeds: expected 1 or more, got {flags.seeds}")
    complete = True
    if flags.data_dir:
        runner = Runner(flags.runs, flags.jobs, "mnist", flags.data_dir)
        complete = runner.train(with_seeds([each for each in RUNS if each.name in flags.recipes], flags.seeds))
    if flags.check:
        complete = check(flags.runs, results_page.PICTURES) and complete
    else:
        results_page.publish(flags.runs)
    return 0 if complete else 1


def check(folder: Path, published: Path) -> bool:
    """Compare each run in a folder with what is published of its recipe over seeds; whether all figures still hold.

    A folder without a finished run holds nothing.
    """
    known = results_page.by_run(records.known(published))
    paths = sorted(folder.glob(f"*/{records.RECORD}"))
    if not paths:
        print(
            f"{folder}: expected finished runs, each in a folder with {records.RECORD}, got none: train them first",
            flush=True,
        )
    holds = bool(paths)
    for path in paths:
        name, found = path.parent.name, records.read(path)
        of_seeds = spread.of([dict(each.metrics) for each in known.get(run_name(name), [])])
        spec = next((each for each in RUNS if each.name == run_name(name)), None)
        promised = results_page.promised(spec.config) if spec else []
        figures = {each: found.metrics[each] for each in promised if each in found.metrics}
        departed = spread.departures(of_seeds, figures)
        judged = [each for each in figures if each in of_seeds and of_seeds[each].interval]
        if not judged:
            print(f"{name}: not judged, as fewer than three seeds are published of what it measured", flush=True)
        for each in departed:
            print(f"{name}: {each}", flush=True)
        if judged and not departed:
            print(f"{name}: {', '.join(judged)} as published", flush=True)
        holds = holds and not departed
    return holds


@dataclass(frozen=True)
class Runner:
    """Trains `jobs` runs at a time in folders of `runs`, each in a subprocess whose output goes to NAME.log.

    Small networks gain little from a second thread, parallel runs gain fully: so a recipe without `device.threads`
    gets its share of the cores.
    """

    runs: Path
    jobs: int
    kind: str
    data_dir: Path | None = None
    processes: Processes = field(default_factory=Processes)

    def train(self, wanted: Sequence[RunSpec]) -> bool:
        """Train what is not finished yet, the longest first to keep all cores busy; whether everything is finished."""
        todo = [each for each in wanted if not (self.runs / each.folder / records.RECORD).exists()]
        todo.sort(key=lambda each: each.config.expected.minutes, reverse=True)
        self.runs.mkdir(parents=True, exist_ok=True)
        with self.processes.stopped_by(signal.SIGINT, signal.SIGTERM), ThreadPoolExecutor(self.jobs) as pool:
            return all(list(pool.map(self._try_one, todo)))

    def _try_one(self, spec: RunSpec) -> bool:
        """Train and report; whether that succeeded. A failing run does not stop the others."""
        if self.processes.stopping:
            return False
        log = self.runs / f"{spec.folder}.log"
        print(f"{spec.folder}: begins, {spec.config.expected.minutes:g} minutes of a quiet core; see {log}", flush=True)
        try:
            self._run(spec, log)
        except TrainingError as error:
            print(f"{spec.folder}: {error}; see {log}", flush=True)
            return False
        record = records.read(self.runs / spec.folder / records.RECORD)
        figures = results_page.figures(spec.config, record)
        print(f"{spec.folder}: {figures}; {', '.join(results_page.spent(record.cost))}", flush=True)
        return True

    def _run(self, spec: RunSpec, log: Path) -> None:
        """Train in a subprocess and record its cost.

        Raises:
            TrainingError: it failed, or was stopped.
        """
        out = self.runs / spec.folder
        resumed = (out / "latest").exists()
        words = [spec.recipe, *self._source(str(self.data_dir)), "--out", str(out), *self.settings(spec)]
        cost = self.processes.spend([*words, "--resume"], log, resumed=resumed)
        if spec.name == _WITH_ATTRIBUTES:
            folder = ["--data-dir", str(self.data_dir)] if self.data_dir else []
            self.processes.spend(["attributes", str(out), *folder], log, resumed=False)
        shown = [spec.recipe, *self._source("DIR"), "--out", "DIR", *self.settings(spec)]
        records.write(out, f"python -m training {shlex.join(shown)}", cost)

    def _source(self, folder: str) -> list[str]:
        """The arguments that name the data."""
        return ["--data", self.kind, *(["--data-dir", folder] if self.data_dir else [])]

    def settings(self, spec: RunSpec) -> list[str]:
        """The arguments that override the recipe."""
        share = [] if spec.config.device.threads else [f"device.threads={max(1, cores() // self.jobs)}"]
        return [word for override in [*spec.settings, *share] for word in ("--set", override)]


if __name__ == "__main__":
    sys.exit(main())
