"""Numerical parity: how far a graph is from the float64 network, from its golden vectors, and rows alone from batches.

Runs in the sandbox, needs neither torch nor onnx, and only measures: the checks decide.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from autoencoder.v1.model_pb2 import Signature

from bundle import golden, replay
from bundle.golden import Array, Arrays, Case
from bundle.replay import RowDifference
from bundle.runtime_options import Device
from export.gate.session import Session, open_session
from export.graphs.tensor_specs import TESTED_BATCHES


@dataclass(frozen=True)
class TestInput:
    """One kind of input to one graph, first axis the rows, and the answer in float64."""

    __test__ = False  # no test of pytest's

    kind: str
    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]
    undecided: Mapping[str, Array] = field(default_factory=dict[str, Array])
    """Where an output depends on a choice that is nearly tied: not compared."""
    choices: int = 0
    """Rows of all argmin and argmax that the network computed."""
    tied: int = 0
    """Of these, the nearly tied ones."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True)
class Worst:
    """The largest difference on one kind of input: `excess` is its multiple of what the tolerance allows."""

    kind: str
    batch: int
    output: str
    max_abs_error: float
    excess: float


@dataclass(frozen=True)
class Measured:
    """What was measured of one graph. `alone_difference` compares rows alone with rows in a batch; 0: the same bits."""

    worst: tuple[Worst, ...]
    """One of each kind of input and output."""
    alone_difference: float
    alone_excess: float
    batches: tuple[int, ...]
    choices: int = 0
    tied: int = 0
    """As in `TestInput`, over all inputs."""

    @property
    def max_abs_error(self) -> float:
        """Largest over all inputs."""
        return max(each.max_abs_error for each in self.worst)


def measure(graph: bytes, inputs: Sequence[TestInput], device: Device = "cpu") -> Measured:
    """Run a graph on all inputs in all batch sizes, and row by row."""
    session = open_session(graph, device)
    worst = [each for tried in inputs for each in _worst(session, tried)]
    alone = _row_difference(session, [tried.inputs for tried in inputs])
    batches = tuple(sorted({batch for tried in inputs for batch in sizes(tried.rows)}))
    chosen = sum(tried.choices for tried in inputs), sum(tried.tied for tried in inputs)
    return Measured(tuple(worst), *alone, batches, *chosen)


def sizes(rows: int) -> list[int]:
    """Batch sizes to try with this many rows: the usual ones, and all rows."""
    return sorted({batch for batch in TESTED_BATCHES if batch <= rows} | {rows})


def row_difference(
    graph: bytes, inputs: Sequence[Arrays], tolerance: float = 0.0, device: Device = "cpu"
) -> RowDifference:
    """How far rows alone are from the same rows in batches of every size."""
    return _row_difference(open_session(graph, device), inputs, tolerance)


def golden_problems(graph: bytes, cases: Iterable[Case], tolerance: float = 0.0, device: Device = "cpu") -> list[str]:
    """Outputs of a graph that are not the golden ones, a sentence each."""
    compared = replay.golden_vectors(open_session(graph, device).run_rows, cases, tolerance)
    return [str(each) for each in compared if not each.agrees]


def golden_error(graph: bytes, cases: Iterable[Case], device: Device = "cpu") -> float:
    """Largest distance of a graph from its golden outputs."""
    return max(each.max_error for each in replay.golden_vectors(open_session(graph, device).run_rows, cases))


def tile_difference(
    graph: bytes, signature: Signature, beside: Sequence[Array], device: Device = "cpu"
) -> RowDifference:
    """How far tiles are from the whole image, on noise; `beside` holds one row of every further input."""
    return replay.tiles_agree(open_session(graph, device).run_rows, signature, beside)


def outputs(graph: bytes, inputs: Iterable[Arrays], device: Device = "cpu") -> list[dict[str, Array]]:
    """What a graph answers to each input."""
    session = open_session(graph, device)
    return [session.run(each) for each in inputs]


def mean_squared_error(
    graph: bytes, inputs: Sequence[Array], targets: Array, output: str, device: Device = "cpu", rows: int = 64
) -> float:
    """Per pixel, over all rows of `inputs`, the first of them (N, H, W, C); `targets` are in 0 … 1."""
    session = open_session(graph, device)
    total = 0.0
    for start in range(0, len(targets), rows):
        actual = session.run_rows(*(each[start : start + rows] for each in inputs))[output]
        total += float(np.sum((actual.astype(np.float64) - targets[start : start + rows]) ** 2))
    return total / targets.size


def rounded_up(error: float) -> float:
    """To two digits: what lies beyond them may differ between two runs on one machine."""
    if error == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(error)) - 1)
    return float(f"{math.ceil(error / unit) * unit:.1e}")


def _worst(session: Session, tried: TestInput) -> Iterator[Worst]:
    worst: dict[str, Worst] = {}
    for batch in sizes(tried.rows):
        actual = session.run({name: np.ascontiguousarray(array[:batch]) for name, array in tried.inputs.items()})
        for name, answers in tried.expected.items():
            expected = answers[:batch]
            if name in tried.undecided:
                expected = np.where(tried.undecided[name][:batch], actual[name], expected)
            error, excess = golden.max_error(actual[name], expected), golden.excess(actual[name], expected)
            if name not in worst or excess > worst[name].excess:
                worst[name] = Worst(tried.kind, batch, name, error, excess)
    yield from worst.values()


def _row_difference(session: Session, inputs: Iterable[Arrays], tolerance: float = 0.0) -> RowDifference:
    few = TESTED_BATCHES[-1]
    largest = excess = 0.0
    for each in inputs:
        rows, *others = each.values()
        found = replay.batch_invariance(session.run_rows, rows, _batches(len(rows), few), few, tolerance, others)
        largest, excess = max(largest, found.largest), max(excess, found.excess)
    return RowDifference(largest, excess)


def _batches(rows: int, few: int) -> list[Sequence[int]]:
    """Batches of every size from the first row on; once more a few rows in reverse order."""
    return [*(range(size) for size in sizes(rows)), list(reversed(range(min(few, rows))))]
