"""Images with their labels."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, H, W, C) and, where known, labels int64 (N,) and the images' positions (N,) in their source."""

    images: np.ndarray
    labels: np.ndarray | None
    positions: np.ndarray | None = None
    conversions: np.ndarray | None = None
    """For images read from files: what their reader changed, as `image_files.Conversion`, uint8 (N,)."""

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: np.ndarray | slice) -> "Split":
        """The chosen rows."""
        others = (self.labels, self.positions, self.conversions)
        return Split(self.images[rows], *(None if each is None else each[rows] for each in others))
