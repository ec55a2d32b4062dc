"""A step of training against a minimal hand-written PyTorch loop with the same network, in interleaved rounds.

`python -m bench.studies.training_step [fc-ae | photo-ae | photo-denoiser]` prints medians and their ratio; exit 1
above 1.1.
"""

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from training.data.batches import shuffled_batches
from training.data.dataset import Dataset
from training.data.dataset import load as load_dataset
from training.data.photos.crops import Pictures
from training.data.split import Split
from training.distributed import ProcessGroup
from training.models import initial_weights
from training.models.autoencoders import Autoencoder, Denoiser
from training.random_streams import Purpose, generator
from training.recipe import load_recipe
from training.train import Trainer

BATCH = 256
STEPS = 4  # of a round, where one takes long
LIMIT = 1.1


Step = Callable[[torch.Tensor], object]


def dataset(recipe: str) -> Dataset:
    """For `fc-ae` random images, as a step takes as long on them as on others; for the others those of the recipe."""
    if recipe != "fc-ae":
        return load_dataset(load_recipe(recipe, "photographs").data)
    draws = np.random.default_rng(0)
    count = BATCH * 60
    split = Split(draws.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8), draws.integers(0, 10, count))
    return Dataset("random", split, split, split)


def plain_dense(split: Split) -> Step:
    """What one would write in ten lines: a tensor in memory, the same network, loss and optimizer."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 784))
    pixels = torch.from_numpy(split.images).permute(0, 3, 1, 2).contiguous()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def step(rows: torch.Tensor) -> float:
        batch = pixels[rows].float() / 255
        loss = functional.binary_cross_entropy_with_logits(network(batch), batch.flatten(1), reduction="sum") / len(
            rows
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def plain_photographs(pictures: Pictures, network: Denoiser | Autoencoder) -> Step:
    """The same for squares of photographs at random places, denoised or encoded and decoded; no average of weights."""
    draws = np.random.default_rng(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def crop(row: int) -> np.ndarray:
        picture = pictures.images[pictures.owners[row]]
        side = pictures.side
        top, left = (draws.integers(0, size - side + 1) for size in picture.shape[:2])
        square = picture[top : top + side, left : left + side]
        return square[:, ::-1] if draws.random() < 0.5 else square  # noqa: PLR2004 (one of two)

    def step(rows: torch.Tensor) -> float:
        batch = torch.from_numpy(np.stack([crop(int(row)) for row in rows])).permute(0, 3, 1, 2).float() / 255
        batch = batch.contiguous(memory_format=torch.channels_last)
        if isinstance(network, Denoiser):
            levels = torch.rand(len(rows)) * 0.2157
            output = network.denoise(batch + levels.view(-1, 1, 1, 1) * torch.randn_like(batch), levels)
        else:
            output = network.decode(network.encode(batch))
        loss = functional.mse_loss(output, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def our_trainer(recipe: str, data: Dataset, folder: Path) -> Trainer:
    """Its step has sums, the norm of the gradient, the guard, the schedule and, where the recipe asks, the average."""
    settings = load_recipe(recipe, "mnist" if recipe == "fc-ae" else "photographs")
    trainer = Trainer(settings, data, folder, ProcessGroup(), Event())
    initial_weights.initialise(trainer.state.model, generator(0, Purpose.WEIGHTS))
    return trainer


def seconds(step: Callable[[torch.Tensor], object], batches: tuple[torch.Tensor, ...]) -> float:
    """Of one step, over some batches."""
    started = time.perf_counter()
    for rows in batches:
        step(rows)
    return (time.perf_counter() - started) / len(batches)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="fc-ae", choices=["fc-ae", "photo-ae", "photo-denoiser"])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    data = dataset(flags.recipe)
    with tempfile.TemporaryDirectory() as folder:
        trainer = our_trainer(flags.recipe, data, Path(folder))
        if data.pictures:
            network = copy.deepcopy(trainer.state.model)
            plain = plain_photographs(data.pictures, cast("Denoiser | Autoencoder", network))
        else:
            plain = plain_dense(data.train)
        batch, at_once = (trainer.state.config.run.batch_size, STEPS) if data.pictures else (BATCH, None)
        batches = shuffled_batches(0, 0, len(data.train), batch)[:at_once]
        times = [(seconds(trainer.step, batches), seconds(plain, batches)) for _ in range(flags.rounds + 1)][1:]
    ratio = statistics.median(our / other for our, other in times)
    our, other = (statistics.median(each) * 1e6 for each in zip(*times, strict=True))
    rounds = f"median ratio {ratio:.3f} over {flags.rounds} rounds"
    print(f"{flags.recipe} step {our:.0f} us, plain loop {other:.0f} us, {rounds}")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
