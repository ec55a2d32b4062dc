"""Data loader: batches of one tensor in memory, in an order that only (seed, epoch) decides; no workers."""

import torch
from torch import Tensor

from training.data.split import Split
from training.random_streams import Purpose, generator

_ROWS_AT_ONCE = 1_000


class InMemoryBatches:
    """A split on the device. Images come out float32 (N, C, H, W) in 0 to 1."""

    def __init__(self, split: Split, device: torch.device, memory_format: torch.memory_format) -> None:
        self.images = torch.tensor(split.images).permute(0, 3, 1, 2).contiguous().to(device)
        self.labels = None if split.labels is None else torch.tensor(split.labels).to(device)
        self.memory_format = memory_format

    def __len__(self) -> int:
        return len(self.images)

    def mean(self) -> Tensor:
        """The mean image (C, H, W), in 0 to 1."""
        parts = (scaled(part).sum(0, dtype=torch.float64) for part in self.images.split(_ROWS_AT_ONCE))
        total = sum(parts, start=torch.zeros(self.images.shape[1:], dtype=torch.float64, device=self.images.device))
        return (total / len(self)).float()

    def visit(self, rows: Tensor, share: slice, seed: int, step: int) -> tuple[Tensor, Tensor | None]:  # noqa: ARG002 (random crops depend on them)
        """Images and labels of this process's share of a step's rows (N,)."""
        return self.batch(rows[share])

    def batch(self, rows: Tensor | slice) -> tuple[Tensor, Tensor | None]:
        """Images and labels of some rows."""
        # index_select gathers whole images; indexing with brackets would take twice the time.
        images = self.images[rows] if isinstance(rows, slice) else _gathered(self.images, rows)
        images = scaled(images)
        labels = None if self.labels is None else self.labels[rows]
        return images.contiguous(memory_format=self.memory_format), labels


def scaled(pixels: Tensor) -> Tensor:
    """uint8, uint16 or float32 of any shape to float32 in 0 to 1."""
    return pixels.float() if pixels.dtype.is_floating_point else pixels.float().div_(torch.iinfo(pixels.dtype).max)


def _gathered(images: Tensor, rows: Tensor) -> Tensor:
    rows = rows.to(images.device)
    # Of uint16 not every device of PyTorch can select.
    if images.dtype == torch.uint16:
        return images.view(torch.int16).index_select(0, rows).view(torch.uint16)
    return images.index_select(0, rows)


def shuffled_batches(seed: int, epoch: int, count: int, batch_size: int) -> tuple[Tensor, ...]:
    """The rows of each batch of an epoch; the last may be smaller."""
    return torch.randperm(count, generator=generator(seed, Purpose.ORDER, epoch)).split(batch_size)
