import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.conftest import QUICK, quick
from tests.training.test_train import log
from training import checkpoint
from training.team import Team
from training.train import train

SETTINGS = (*QUICK, "loss.binarise=true")


def test_shares_cover_a_batch_without_overlap() -> None:
    for count in (0, 1, 5, 7, 64):
        rows = [row for rank in range(3) for row in range(count)[Team(rank, 3).share(count)]]
        assert rows == list(range(count))


@pytest.mark.parametrize("recipe", ["vae", "vae-gan"])
def test_two_processes_train_as_one(recipe: str, tmp_path: Path) -> None:
    train(quick(recipe, *SETTINGS), tmp_path / "one")
    options = [option for setting in SETTINGS for option in ("--set", setting)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "training", recipe, "--out", str(tmp_path / "two"), *options]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for one, two in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        assert two["step"] == one["step"]
        for split in ("train", "validation"):
            assert two[split] == pytest.approx(one[split], rel=1e-3, abs=1e-5)
    alone, shared = (checkpoint.load(tmp_path / each).model.state_dict() for each in ("one", "two"))
    for name, weight in alone.items():
        torch.testing.assert_close(shared[name], weight, rtol=1e-2, atol=2e-3)
