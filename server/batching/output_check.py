"""Whether what a graph gave can be answered with: NaN and infinity are no numbers to anybody."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class NotFiniteError(Exception):
    """A graph has given NaN or infinity for rows of a request; it tells of the model, or of what those rows hold."""

    def __init__(self) -> None:
        super().__init__("the graph has given NaN or infinity")


def spoiled_rows(outputs: Sequence[NDArray[Any]]) -> NDArray[np.bool_] | None:
    """(rows,) true where an output has NaN or infinity, from (rows, …) each; None when there is none."""
    floats = [output for output in outputs if output.dtype.kind == "f"]
    for output in floats:
        # One pass without a copy, a microsecond for a small batch. Where all is well it may overflow all the same.
        if not math.isfinite(np.vdot(output, output)):
            return _spoiled_rows(floats)
    return None


def _spoiled_rows(floats: Sequence[NDArray[Any]]) -> NDArray[np.bool_] | None:
    spoiled = np.zeros(len(floats[0]), np.bool_)
    for output in floats:
        spoiled |= ~np.isfinite(output).all(axis=tuple(range(1, output.ndim)))
    return spoiled if spoiled.any() else None
