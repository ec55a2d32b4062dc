"""Self-test of a bundle: replays golden vectors, the golden sample and batch invariance on any runtime.

The runtime is a callable: (rows, …) of a graph's one input to its outputs by name, (rows, …) each.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from autoencoder.v1.model_pb2 import Model
from numpy.typing import NDArray

from bundle import golden, latents
from bundle.golden import Case, SampleCase
from bundle.latents import LatentStatistics

Run: TypeAlias = Callable[[NDArray[Any]], Mapping[str, NDArray[Any]]]


class Comparison(NamedTuple):
    """One output of one golden case against what the runtime gave."""

    case: int
    output: str
    max_error: float
    agrees: bool

    def __str__(self) -> str:
        return f"case {self.case}, output {self.output}: off by {self.max_error:.3g}"


class RowDifference(NamedTuple):
    """How far a row alone is from the same row in a batch."""

    largest: float
    """Absolute; 0 where they have the same bits."""
    excess: float
    """As a multiple of what the tolerance allows, as `golden.excess`."""


def golden_vectors(run: Run, cases: Iterable[Case], tolerance: float = 0.0) -> Iterator[Comparison]:
    """Compare every output of a graph's golden cases; `tolerance` as in `golden.agrees`."""
    for index, case in enumerate(cases):
        (rows,) = case.inputs.values()
        actual = run(np.ascontiguousarray(rows))
        for name, expected in case.outputs.items():
            error = golden.max_error(actual[name], expected)
            yield Comparison(index, name, error, golden.agrees(actual[name], expected, tolerance))


def draws_golden_latents(model: Model, statistics: LatentStatistics | None, case: SampleCase) -> bool:
    """Whether `Sample` draws the golden latents from the golden seed here, to the bit."""
    drawn = latents.draw(model.family, model.latent_size, statistics, case.seed, 0, case.count, case.temperature)
    return drawn is not None and drawn.tobytes() == case.latents.tobytes()


def batch_invariance(
    run: Run, rows: NDArray[Any], batches: Iterable[Sequence[int]], compared: int, tolerance: float = 0.0
) -> RowDifference:
    """Largest difference between a row alone and the same row in a batch.

    `batches` holds the numbers of the rows that are run together; of `rows`, the first `compared` are also run alone.
    """
    alone = [run(np.ascontiguousarray(rows[index : index + 1])) for index in range(min(compared, len(rows)))]
    largest = excess = 0.0
    for batch in batches:
        together = run(np.ascontiguousarray(rows[list(batch)]))
        shown = [place for place, index in enumerate(batch) if index < len(alone)]
        for name, array in together.items():
            actual = array[shown]
            expected = np.concatenate([alone[batch[place]][name] for place in shown])
            if actual.tobytes() != expected.tobytes():
                largest = max(largest, golden.max_error(actual, expected))
                excess = max(excess, golden.excess(actual, expected, tolerance))
    return RowDifference(largest, excess)
