"""Seeded random streams: numbers depend on (seed, purpose, step) alone, so there is no generator state to save."""

import enum
import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


class Purpose(enum.Enum):
    """What a stream is for; streams of different purposes are independent."""

    WEIGHTS = "weights"
    ORDER = "order"
    STEP = "step"
    CROP = "crop"
    VALIDATION = "validation"
    TEST = "test"


def generator(seed: int, purpose: Purpose, index: int = 0) -> torch.Generator:
    """A CPU generator: the same numbers on every machine and device."""
    digest = hashlib.sha256(f"{seed}/{purpose.value}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@dataclass(frozen=True)
class Draws:
    """Random numbers for one batch. Every process draws for the whole batch and keeps its own rows `start` to `stop`.

    So the numbers of an image do not depend on how many processes share the batch.
    """

    generator: torch.Generator
    size: int
    start: int
    stop: int
    device: torch.device

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """float32 (rows, *shape) from N(0, 1)."""
        return torch.randn((self.size, *shape), generator=self.generator)[self.start : self.stop].to(self.device)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """float32 (rows, *shape) from U(0, 1)."""
        return torch.rand((self.size, *shape), generator=self.generator)[self.start : self.stop].to(self.device)

    def part(self, rows: slice) -> "Draws":
        """The same numbers for some of the rows alone, from a generator of its own; before any was drawn."""
        source = torch.Generator()
        source.set_state(self.generator.get_state())
        return Draws(source, self.size, self.start + rows.start, self.start + rows.stop, self.device)

    @classmethod
    def whole_batch(cls, source: torch.Generator, size: int, device: torch.device) -> "Draws":
        """Random numbers for a batch that is not shared between processes."""
        return cls(source, size, 0, size, device)
