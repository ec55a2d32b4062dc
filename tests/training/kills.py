"""Kills a run again and again with SIGKILL, resumes it, and compares it with one that ran through.

`python -m tests.training.kills --kills 100` does what the test does, more often.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from training import config
from training.train import train

SETTINGS = (
    "run.epochs=12",
    "run.batch_size=256",
    "run.ema_decay=0.9",
    "model.hidden=[16]",
    "model.latent_size=4",
    "output.save_seconds=0",
)
LONGEST_LIFE_SECONDS = 1.5
TIMES = ("seconds", "images_per_second")


def run(folder: str) -> None:
    """One life: goes on with the run where it was saved last."""
    # What a dying process says is of no interest.
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  lives as long as the process
    train(config.load("vae", "digits", SETTINGS), Path(folder), resume=True)


def kill_and_resume(folder: Path, kills: int, seed: int) -> int:
    """Lets the run live for random times, then to its end; the number of times that it died."""
    # The server has imported PyTorch and done nothing else: a life begins at once, in a clean process.
    lives = multiprocessing.get_context("forkserver")
    lives.set_forkserver_preload(["training.train"])
    times, deaths = random.Random(seed), 0
    for _ in range(kills):
        process = lives.Process(target=run, args=(str(folder),))
        process.start()
        process.join(times.uniform(0, LONGEST_LIFE_SECONDS))
        process.kill()
        process.join()
        deaths += process.exitcode == -signal.SIGKILL
    last = lives.Process(target=run, args=(str(folder),))
    last.start()
    last.join()
    if last.exitcode:
        raise RuntimeError(f"after {deaths} deaths the run could not be resumed: exit {last.exitcode}")
    return deaths


def content(folder: Path) -> dict[str, Any]:
    """What two runs must have in common: weights and statistics to the byte, the description, the log but for times."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    log = [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in lines]
    meta = json.loads((folder / "best" / "checkpoint.json").read_text())
    # Somebody may commit while this runs.
    del meta["git_revision"]
    names = ("best/model.safetensors", "best/latents.npz", "latest/model.safetensors")
    return {"log": log, "meta": meta, **{name: (folder / name).read_bytes() for name in names}}


def compare(kills: int, seed: int, folder: Path) -> tuple[int, list[str]]:
    """The number of deaths, and the names of what differs."""
    kill_and_resume(folder / "whole", 0, seed)
    deaths = kill_and_resume(folder / "killed", kills, seed)
    whole, killed = content(folder / "whole"), content(folder / "killed")
    return deaths, [name for name in whole if whole[name] != killed[name]]


def main() -> int:
    """The command line; 0 when nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        deaths, differing = compare(flags.kills, flags.seed, Path(folder))
    print(f"killed {deaths} times in {flags.kills} lives; differing: {', '.join(differing) or 'nothing'}")  # noqa: T201
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
