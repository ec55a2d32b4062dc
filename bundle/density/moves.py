"""Moves of latents along attributes: all by one vector, or each in the direction that holds where it stands."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A matrix of this norm needs so many terms of the exponential for the precision of float64.
_SMALL_NORM, _TERMS = 0.5, 14
# Squaring multiplies the rounding error: of a contracting move about 1e-7 of the result is wrong at this norm, and more
# in proportion beyond it.
_LARGEST_NORM = 1e8


@dataclass(frozen=True, eq=False)
class Move:
    """The flow of dz/dt = matrix z + vector over unit time; with no matrix a shift by the vector.

    So the way back is the move of minus the amount, and two half moves are a whole one.
    """

    vector: NDArray[np.float64]
    """(D,)"""
    matrix: NDArray[np.float64] | None = None
    """(D, D)"""

    def of(self, latents: NDArray[Any]) -> NDArray[np.float64]:
        """(N, D) to the same, each row whatever the others are; not finite where `exponential` is not."""
        if self.matrix is None:
            return latents + self.vector
        size = len(self.vector)
        generator = np.zeros((size + 1, size + 1))
        generator[:size, :size], generator[:size, size] = self.matrix, self.vector
        affine = exponential(generator)
        return affine[:size, size] + ordered_sum(latents, affine[:size, :size].T)


def exponential(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, n) to its exponential, by scaling and squaring (Moler & Van Loan 2003, method 3).

    It is not finite on overflow, nor for a matrix so large, or not finite itself, that little of it would be right.
    """
    norm = float(np.abs(matrix).sum(0).max())
    if not norm <= _LARGEST_NORM:
        return np.full_like(matrix, np.nan)
    squarings = max(0, int(np.ceil(np.log2(norm / _SMALL_NORM)))) if norm > 0 else 0
    scaled, identity = matrix / 2.0**squarings, np.eye(len(matrix))
    found = identity
    for term in range(_TERMS, 0, -1):
        found = identity + scaled @ found / term
    for _ in range(squarings):
        found = found @ found
    return found


def ordered_sum(rows: NDArray[Any], terms: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(N, k) and k terms of (D,) or (N, D) to (N, D): their product, added from the first to the last.

    BLAS picks its order by size and processor, and a row must not depend on how many others there are.
    """
    return sum(
        (column[:, None] * term for column, term in zip(rows.T.astype(np.float64), terms, strict=True)),
        start=np.zeros(()),
    )
