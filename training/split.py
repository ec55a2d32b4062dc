"""Images with their labels."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, H, W, C) and, where there are any, labels int64 (N,)."""

    images: np.ndarray
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray | slice) -> "Split":
        """The chosen rows."""
        return Split(self.images[rows], None if self.labels is None else self.labels[rows])
