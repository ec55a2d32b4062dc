"""How long a graph takes for each batch size; belongs in report.json, never in hashed files."""

from collections.abc import Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.runtime import open_session

_ROUNDS = 7
_BUDGET_SECONDS = 0.25


def latencies_ms(graph: bytes, inputs: Mapping[str, NDArray[Any]], buckets: Sequence[int]) -> dict[int, float]:
    """Median milliseconds of one run on one thread, by batch size; rows are repeated to fill a batch."""
    session = open_session(graph)
    return {
        bucket: _median_ms(
            session.run, {name: np.resize(rows, (bucket, *rows.shape[1:])) for name, rows in inputs.items()}
        )
        for bucket in buckets
    }


def _median_ms(run: Any, batch: Mapping[str, NDArray[Any]]) -> float:  # noqa: ANN401 (a bound method)
    run(batch)
    taken: list[float] = []
    start = perf_counter()
    while len(taken) < _ROUNDS and (not taken or perf_counter() - start < _BUDGET_SECONDS):
        before = perf_counter()
        run(batch)
        taken.append((perf_counter() - before) * 1e3)
    return median(taken)
