"""A step of `fc-ae` against a minimal hand-written PyTorch loop with the same network, in interleaved rounds.

`python -m bench.training_step` prints the medians and their ratio; exit 1 above 1.1.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from training.data.batches import shuffled_batches
from training.data.dataset import Dataset
from training.data.split import Split
from training.distributed import ProcessGroup
from training.models import initial_weights
from training.random_streams import Purpose, generator
from training.recipe import load_recipe
from training.train import Trainer

BATCH = 256
LIMIT = 1.1


def images(count: int) -> Split:
    """Random images; a step takes as long on them as on others."""
    draws = np.random.default_rng(0)
    return Split(draws.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8), draws.integers(0, 10, count))


def plain_step(split: Split) -> Callable[[torch.Tensor], float]:
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


def our_step(split: Split, folder: Path) -> Callable[[torch.Tensor], object]:
    """The step of the trainer: with its sums, the norm of the gradient, the guard and the schedule."""
    settings = load_recipe("fc-ae", "mnist")
    trainer = Trainer(settings, Dataset("random", split, split, split), folder, ProcessGroup(), Event())
    initial_weights.initialise(trainer.state.model, generator(0, Purpose.WEIGHTS))

    def step(rows: torch.Tensor) -> None:
        trainer.step(rows)

    return step


def seconds(step: Callable[[torch.Tensor], object], batches: tuple[torch.Tensor, ...]) -> float:
    """Of one step, over some batches."""
    started = time.perf_counter()
    for rows in batches:
        step(rows)
    return (time.perf_counter() - started) / len(batches)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch, as the recipe has it")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    split = images(BATCH * 60)
    batches = shuffled_batches(0, 0, len(split), BATCH)
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = our_step(split, Path(folder)), plain_step(split)
        times = [(seconds(ours, batches), seconds(plain, batches)) for _ in range(flags.rounds + 1)][1:]
    ratio = statistics.median(our / other for our, other in times)
    our, other = (statistics.median(each) * 1e6 for each in zip(*times, strict=True))
    print(f"fc-ae step {our:.0f} us, plain loop {other:.0f} us, median ratio {ratio:.3f} over {flags.rounds} rounds")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
