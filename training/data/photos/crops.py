"""Crops: squares of one size out of images of any size, side by side for evaluation, at random places for training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from training.data.batches import scaled
from training.data.split import Split, refuse_smaller
from training.random_streams import Purpose, generator

# Of one split; beyond them crops are left out, evenly, and an epoch visits those that are left.
_MOST_BYTES = 512 * 2**20
_WAYS = 4


@dataclass(frozen=True)
class Pictures:
    """Whole images (H, W, C) of one element type, and how training cuts them."""

    images: Sequence[np.ndarray]
    owners: np.ndarray
    """(N,): the picture of each row of the training split."""
    side: int
    flips: str

    def crops(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Rows (N,) of the training split and numbers (N, 4) in 0 to 1 to crops anywhere in their pictures."""
        return np.stack([self._crop(int(self.owners[row]), each) for row, each in zip(rows, numbers, strict=True)])

    def _crop(self, picture: int, numbers: np.ndarray) -> np.ndarray:
        image, side = self.images[picture], self.side
        top, left = (int(number * (size - side + 1)) for number, size in zip(numbers, image.shape[:2], strict=False))
        crop = image[top : top + side, left : left + side]
        if self.flips == "all":
            crop = np.rot90(crop, int(numbers[3] * _WAYS))
        return crop[:, ::-1] if self.flips != "none" and numbers[2] < 0.5 else crop  # noqa: PLR2004 (one of two)


class RandomCrops:
    """Batches of random crops; a row stands for its picture, and a step decides where in it."""

    def __init__(
        self, pictures: Pictures, labels: np.ndarray | None, device: torch.device, memory_format: torch.memory_format
    ) -> None:
        self._pictures, self._device, self._memory_format = pictures, device, memory_format
        self.labels = None if labels is None else torch.tensor(labels).to(device)

    def __len__(self) -> int:
        return len(self._pictures.owners)

    def visit(self, rows: Tensor, share: slice, seed: int, step: int) -> tuple[Tensor, Tensor | None]:
        """Float32 (n, C, H, W) in 0 to 1 and labels of this process's share of a step's rows (N,)."""
        numbers = torch.rand((len(rows), 4), generator=generator(seed, Purpose.CROP, step))[share].numpy()
        mine = rows[share]
        crops = torch.from_numpy(self._pictures.crops(mine.numpy(), numbers)).to(self._device)
        images = scaled(crops.permute(0, 3, 1, 2)).contiguous(memory_format=self._memory_format)
        return images, None if self.labels is None else self.labels[mine.to(self._device)]


def side_by_side(split: Split, side: int) -> tuple[Split, np.ndarray]:
    """A split of images of any size to one of squares, as many as fit around the middle of each; the image of each.

    Raises:
        DataError: an image is smaller than a square.
    """
    places = list(_places(split.images, side))
    channels = split.images[0].shape[2]
    most = max(1, _MOST_BYTES // (side * side * channels * split.images[0].itemsize))
    if len(places) > most:
        places = [places[int(row)] for row in np.linspace(0, len(places) - 1, most)]
    owners = np.array([picture for picture, _, _ in places], np.intp)
    squares = np.stack([split.images[picture][top : top + side, left : left + side] for picture, top, left in places])
    return replace(split.take(owners), images=squares), owners


def _places(images: np.ndarray, side: int) -> Iterator[tuple[int, int, int]]:
    """Image, top and left of every square."""
    for picture, image in enumerate(images):
        refuse_smaller(image, f"image {picture + 1} of {len(images)}", side)
        (down, top), (across, left) = (_fitting(size, side) for size in image.shape[:2])
        for row in range(down):
            for column in range(across):
                yield picture, top + row * side, left + column * side


def _fitting(size: int, side: int) -> tuple[int, int]:
    """How many squares fit along a side, and where the first begins."""
    count = size // side
    return count, (size - count * side) // 2
