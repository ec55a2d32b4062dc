import gzip
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import MadeOnce
from training.config import Config
from training.data import dataset
from training.distributed import ProcessGroup
from training.recipe import load_recipe
from training.run.stop_request import StopRequest
from training.train import Trainer, train

# Small and quick, yet with several batches an epoch, the last of them smaller.
QUICK = ("run.epochs=2", "run.batch_size=256")


def quick(recipe: str, *overrides: str) -> Config:
    return load_recipe(recipe, "digits", [*QUICK, *overrides])


def train_alone(config: Config, folder: Path, *, resume: bool = False, stop: StopRequest | None = None) -> None:
    """Train without what follows: evaluation and pictures take longer than two epochs of digits."""
    trainer = Trainer(config, dataset.load(config.data), folder, ProcessGroup(), stop or StopRequest())
    trainer.directory.open(resume=resume, overwrite=False)
    trainer.run(resume=resume)


@pytest.fixture(scope="session")
def vae_run(made_once: MadeOnce) -> Path:
    """The folder of a short run; read it, do not write it."""
    return made_once("vae", partial(train, quick("vae")))


@pytest.fixture(scope="session")
def denoiser_run(made_once: MadeOnce) -> Path:
    return made_once("denoiser", partial(train, quick("denoiser", "run.epochs=1")))


def idx_bytes(array: np.ndarray, magic: int) -> bytes:
    header = np.array([magic, *array.shape], ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, count: int = 40, *, compressed: bool = True) -> None:
    """Four IDX files of random images."""
    draws = np.random.default_rng(0)
    for prefix in ("train", "t10k"):
        images = idx_bytes(draws.integers(0, 256, (count, 28, 28)), 2051)
        labels = idx_bytes(np.arange(count) % 10, 2049)
        for name, data in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            path = folder / (f"{name}.gz" if compressed else name)
            path.write_bytes(gzip.compress(data) if compressed else data)
