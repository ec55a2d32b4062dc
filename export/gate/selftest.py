"""Golden vectors against a runtime: the test that a server makes before it serves. Needs no torch."""

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from bundle import golden
from bundle.golden import Case
from export.runtime import Device, Session, open_session

Arrays = Mapping[str, NDArray[Any]]


def golden_problems(graph: bytes, cases: Iterable[Case], tolerance: float = 0.0, device: Device = "cpu") -> list[str]:
    """Outputs of a graph that are not the golden ones, a sentence each."""
    session = open_session(graph, device)
    return [problem for index, case in enumerate(cases) for problem in _case_problems(session, index, case, tolerance)]


def golden_error(graph: bytes, cases: Iterable[Case], device: Device = "cpu") -> float:
    """Largest distance of a graph from its golden outputs."""
    session = open_session(graph, device)
    got = ((session.run(case.inputs), case.outputs) for case in cases)
    return max(golden.max_error(answer[name], expected[name]) for answer, expected in got for name in expected)


def outputs(graph: bytes, inputs: Iterable[Arrays], device: Device = "cpu") -> list[dict[str, NDArray[Any]]]:
    """What a graph answers to each input."""
    session = open_session(graph, device)
    return [session.run(each) for each in inputs]


def _case_problems(session: Session, index: int, case: Case, tolerance: float) -> list[str]:
    got = session.run(case.inputs)
    return [
        f"case {index}, output {name}: off by {golden.max_error(got[name], expected):.3g}"
        for name, expected in case.outputs.items()
        if not golden.agrees(got[name], expected, tolerance)
    ]
