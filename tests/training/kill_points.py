"""Kills a run again and again with SIGKILL, resumes it, and compares it with one that ran through.

`python -m tests.training.kill_points --kills 100` does what the test does, more often.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from training.recipe import load_recipe
from training.run.stop_request import StopRequest
from training.train import train

STEPS_PER_EPOCH = 6
SETTINGS = (
    "run.batch_size=256",
    "run.ema_decay=0.9",
    "model.hidden=[16]",
    "model.latent_size=4",
    "output.save_seconds=0",
)
# A life ends up to so many steps after it began to train, and so much later: in a step, in a save, between them.
MOST_STEPS = 5
STEP_AND_SAVE_SECONDS = 0.02
# Or, whatever it has come to, at any time: while it loads, reads its state, measures, draws.
ANY_TIME_SHARE, LONGEST_SECONDS = 0.2, 2.0
PATIENCE_SECONDS = 120.0
TIMES = ("seconds", "images_per_second")


class StepReporter(StopRequest):
    """Never set; the loop asks once a step, and that is passed on."""

    def __init__(self, listener: Connection) -> None:
        super().__init__()
        self.listener = listener

    def is_set(self) -> bool:
        self.listener.send_bytes(b".")
        return False


def run(folder: str, epochs: int, listener: Connection) -> None:
    """One life: goes on with the run where it was saved last."""
    # What a dying process says is of no interest.
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  lives as long as the process
    settings = load_recipe("vae", "digits", [*SETTINGS, f"run.epochs={epochs}"])
    train(settings, Path(folder), resume=True, stop=StepReporter(listener))


class Lives:
    """The lives of one run, each in a clean process that has imported PyTorch and done nothing else."""

    def __init__(self, folder: Path, epochs: int) -> None:
        self.folder, self.epochs = folder, epochs
        self.context = multiprocessing.get_context("forkserver")
        # Its compiler too, which the first optimizer imports: that takes longer than most lives.
        self.context.set_forkserver_preload(["training.train", "torch._dynamo"])

    def live(self, draws: random.Random | None = None, *, trained: bool = False) -> str:
        """One life, cut short at a random moment where there are draws; where it ended.

        Of a run that is trained already only the end is done again, which tells of no steps.
        """
        ours, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(target=run, args=(str(self.folder), self.epochs, theirs))
        process.start()
        theirs.close()
        with ours:
            if draws is None:
                while heard(ours, PATIENCE_SECONDS):
                    pass
            else:
                wait(ours, draws, 1.0 if trained else ANY_TIME_SHARE)
                process.kill()
            process.join()
        if process.exitcode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"a run could not be resumed: exit {process.exitcode}, {self.stage()}")
        return self.stage() if process.exitcode else "whole"

    def stage(self) -> str:
        """How far the run had come by its folder."""
        if any(self.folder.glob(".*.new")) or any(self.folder.glob("*.previous")):
            return "in a save"
        try:
            step = json.loads((self.folder / "latest" / "checkpoint.json").read_text())["step"]
        except OSError:
            return "before the first save"
        return "in training" if step < self.epochs * STEPS_PER_EPOCH else "after training"


def wait(listener: Connection, draws: random.Random, share: float) -> None:
    """Waits for the moment of death: some steps after training has begun, in a share of lives at any time before."""
    # All drawn at once: how fast the machine is must not change the next life's draws.
    any_time, limit = draws.random() < share, draws.uniform(0, LONGEST_SECONDS)
    steps, rest = draws.randint(1, MOST_STEPS), draws.uniform(0, STEP_AND_SAVE_SECONDS)
    deadline = time.monotonic() + (limit if any_time else PATIENCE_SECONDS)
    for _ in range(steps):
        if not heard(listener, max(0.0, deadline - time.monotonic())):
            return
    time.sleep(rest)


def heard(listener: Connection, seconds: float) -> bool:
    """Whether a step is told of within this time; not when the life has ended."""
    try:
        return listener.poll(seconds) and bool(listener.recv_bytes())
    except EOFError:
        return False


def content(folder: Path) -> dict[str, Any]:
    """What two runs must have in common: weights and statistics to the byte, the description, the log but for times."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    log = [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in lines]
    meta = json.loads((folder / "best" / "checkpoint.json").read_text())
    # Somebody may commit while this runs.
    del meta["git_revision"]
    names = ("best/model.safetensors", "best/latents.npz", "latest/model.safetensors")
    return {"log": log, "meta": meta, **{name: (folder / name).read_bytes() for name in names}}


def compare(kills: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Where the lives of a run ended, those killed and the last one; what differs from a run that was let be."""
    # More steps than are likely to be made in that many lives: the last one in training goes to the end.
    draws, epochs = random.Random(seed), max(2, 3 * kills // 2)
    Lives(folder / "whole", epochs).live()
    lives, at_the_end = Lives(folder / "killed", epochs), max(1, kills // 10)
    ends = Counter([*(lives.live(draws) for _ in range(kills - at_the_end)), lives.live()])
    ends.update(lives.live(draws, trained=True) for _ in range(at_the_end))
    lives.live()
    whole, killed = content(folder / "whole"), content(folder / "killed")
    return ends, [name for name in whole if whole[name] != killed[name]]


def main() -> int:
    """The command line; 0 when nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ends, differing = compare(flags.kills, flags.seed, Path(folder))
    places = ", ".join(f"{count} {place}" for place, count in ends.most_common())
    print(f"{ends.total()} lives ended: {places}; differing: {', '.join(differing) or 'nothing'}")  # noqa: T201
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
