"""Graphs against numbers: how far the runtime is from the float64 network, and rows from themselves in company.

Runs in a process of its own (`isolation`), needs no torch, and only measures; `gate` judges.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle import golden
from export.runtime import Device, Session, open_session, rows_of, taken

Array = NDArray[Any]

BATCHES = (1, 2, 3, 7, 8, 17)


@dataclass(frozen=True)
class Trial:
    """One kind of input to one graph, first axis the rows, and the answer in float64."""

    kind: str
    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]

    @property
    def rows(self) -> int:
        """How many."""
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True)
class Worst:
    """The largest difference of one kind of trial: `excess` is its multiple of what the tolerance allows."""

    kind: str
    batch: int
    output: str
    max_abs_error: float
    excess: float


@dataclass(frozen=True)
class Measured:
    """What was seen of one graph. `alone_difference` compares rows alone with rows in company; 0 is bitwise."""

    worst: tuple[Worst, ...]
    """One of each kind of trial and output."""
    alone_difference: float
    alone_excess: float
    batches: tuple[int, ...]

    @property
    def max_abs_error(self) -> float:
        """Over all trials."""
        return max(each.max_abs_error for each in self.worst)


def measure(graph: bytes, trials: Sequence[Trial], device: Device = "cpu") -> Measured:
    """Run a graph on all trials in all batch sizes, and row by row."""
    session = open_session(graph, device)
    worst = [each for trial in trials for each in _worst(session, trial)]
    difference, excess = invariance(session, [trial.inputs for trial in trials])
    return Measured(tuple(worst), difference, excess, tuple(sorted({b for trial in trials for b in sizes(trial.rows)})))


def sizes(rows: int) -> list[int]:
    """Batch sizes to try with this many rows: the usual ones, and all rows."""
    return sorted({batch for batch in BATCHES if batch <= rows} | {rows})


def invariance(session: Session, inputs: Iterable[Mapping[str, Array]], tolerance: float = 0.0) -> tuple[float, float]:
    """Largest difference between a row alone and the same row in a batch, 0 where the bits are the same.

    Then the largest multiple of what is allowed, as `golden.excess` has it.
    """
    difference = excess = 0.0
    for each in inputs:
        few = min(BATCHES[-1], rows_of(each))
        alone = _stacked([session.run(taken(each, slice(row, row + 1))) for row in range(few)])
        for company, rows in _companies(session, each, few):
            for name, expected in taken(alone, rows).items():
                if expected.tobytes() != company[name].tobytes():
                    difference = max(difference, golden.max_error(company[name], expected))
                    excess = max(excess, golden.excess(company[name], expected, tolerance))
    return difference, excess


def mean_squared_error(
    graph: bytes, inputs: Array, targets: Array, output: str, device: Device = "cpu", rows: int = 64
) -> float:
    """Per pixel, over all rows of (N, H, W, C) inputs; `targets` are in 0 … 1."""
    session = open_session(graph, device)
    total = 0.0
    for start in range(0, len(inputs), rows):
        got = session.run({"images": inputs[start : start + rows]})[output]
        total += float(np.sum((got.astype(np.float64) - targets[start : start + rows]) ** 2))
    return total / targets.size


def rounded_up(error: float) -> float:
    """To two digits: what lies beyond them may differ between two runs on one machine."""
    if error == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(error)) - 1)
    return float(f"{math.ceil(error / unit) * unit:.1e}")


def _worst(session: Session, trial: Trial) -> Iterator[Worst]:
    seen: dict[str, Worst] = {}
    for batch in sizes(trial.rows):
        got = session.run(taken(trial.inputs, slice(batch)))
        for name, expected in trial.expected.items():
            error = golden.max_error(got[name], expected[:batch])
            excess = golden.excess(got[name], expected[:batch])
            if name not in seen or excess > seen[name].excess:
                seen[name] = Worst(trial.kind, batch, name, error, excess)
    yield from seen.values()


def _companies(session: Session, inputs: Mapping[str, Array], few: int) -> Iterator[tuple[dict[str, Array], list[int]]]:
    """Answers of batches of every size, each with the rows that they answer; once more in reverse order."""
    for batch in sizes(rows_of(inputs)):
        shown = min(batch, few)
        got = session.run(taken(inputs, slice(batch)))
        yield taken(got, slice(shown)), list(range(shown))
    backwards = list(reversed(range(few)))
    yield session.run(taken(inputs, backwards)), backwards


def _stacked(answers: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
