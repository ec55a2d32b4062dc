import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.conftest import QUICK, quick, train_alone
from tests.training.test_train import StopAfter, log
from training import checkpoint
from training.distributed import ProcessGroup, pick_device
from training.errors import StoppedError
from training.train import train

SETTINGS = (*QUICK, "loss.binarise=true")


def test_shares_cover_a_batch_without_overlap() -> None:
    for count in (0, 1, 5, 7, 64):
        rows = [row for rank in range(3) for row in range(count)[ProcessGroup(rank, 3).shard(count)]]
        assert rows == list(range(count))


def train_with_two(recipe: str, out: Path, *flags: str) -> None:
    options = [option for setting in SETTINGS for option in ("--set", setting)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "training", recipe, "--out", str(out), *options, *flags]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def assert_same_curves(one: Path, two: Path) -> None:
    for ours, theirs in zip(log(one), log(two), strict=True):
        assert theirs["step"] == ours["step"]
        for split in ("train", "validation"):
            assert theirs[split] == pytest.approx(ours[split], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("recipe", ["vae", pytest.param("vae-gan", marks=pytest.mark.slow)])
def test_two_processes_train_as_one(recipe: str, tmp_path: Path) -> None:
    train_alone(quick(recipe, *SETTINGS), tmp_path / "one")
    train_with_two(recipe, tmp_path / "two")
    assert_same_curves(tmp_path / "one", tmp_path / "two")
    alone, shared = (checkpoint.load(tmp_path / each).model.state_dict() for each in ("one", "two"))
    for name, weight in alone.items():
        torch.testing.assert_close(shared[name], weight, rtol=1e-2, atol=2e-3)


def test_each_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert pick_device("cuda") == torch.device("cuda", 3)
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.slow
def test_two_processes_go_on_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    # accelerate #4195 and #3996: processes that resume lose the order of the images.
    train(quick("vae", *SETTINGS), tmp_path / "one")
    with pytest.raises(StoppedError):
        train(quick("vae", *SETTINGS), tmp_path / "two", stop=StopAfter(3))
    train_with_two("vae", tmp_path / "two", "--resume")
    assert_same_curves(tmp_path / "one", tmp_path / "two")
