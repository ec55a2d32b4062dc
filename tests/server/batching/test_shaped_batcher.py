"""A queue of rows of many shapes: what shares a run, and what a run passes over."""

from collections.abc import Sequence

import numpy as np
import pytest

from server.batching.entry import Backlog
from server.batching.shaped_batcher import ShapedEntry, ShapedQueue
from server.calls.call import FOREVER, Call
from tests.server.batching.shaped_harness import ShapedHarness, image

NOW = 1000.0
SHAPES = [(4, 4, 1), (8, 8, 1), (16, 16, 1)]


class Owner:
    def discard(self, reason: str) -> None:
        raise AssertionError(reason)


def entry(shape: Sequence[int], rows: int = 1, seconds: float = FOREVER, caller: str = "a") -> ShapedEntry:
    call = Call("Denoise", NOW, NOW + seconds, (), None, None, lambda *_: None)
    call.bearer = caller
    return ShapedEntry(call, np.zeros((rows, *shape), np.float32), (), lambda *_: None, Owner())


def queue(*, shared: bool = False) -> ShapedQueue:
    """Runs of two rows of 8 x 8, or of eight smaller ones."""
    return ShapedQueue(Backlog(10_000, shared=shared), full_rows=2, full_cells=128, most_rows=8)


def taken(waiting: ShapedQueue, now: float = NOW) -> list[ShapedEntry]:
    return [each for each, *_ in waiting.take(now, 8)[0]]


@pytest.mark.parametrize(("shape", "rows"), list(zip(SHAPES, (8, 2, 1), strict=True)))
def test_a_run_has_as_many_rows_as_its_cells_allow(shape: tuple[int, ...], rows: int) -> None:
    waiting = queue()
    assert waiting.rows_together(shape) == rows
    for _ in range(10):
        waiting.push(entry(shape), NOW)
    assert len(taken(waiting)) == rows


@pytest.mark.parametrize("shared", [False, True])
def test_a_run_has_one_shape_and_begins_with_the_first(*, shared: bool) -> None:
    waiting = queue(shared=shared)
    sent = [entry(SHAPES[index % 2]) for index in range(8)]
    for each in sent:
        waiting.push(each, NOW)
    assert taken(waiting) == sent[0::2]
    assert taken(waiting) == sent[1:4:2]
    assert taken(waiting) == sent[5:8:2]
    assert waiting.rows == len(waiting) == 0


def test_what_expires_leaves_with_any_run() -> None:
    waiting = queue()
    sent = [entry(SHAPES[0]), entry(SHAPES[1], seconds=0.5), entry(SHAPES[0])]
    for each in sent:
        waiting.push(each, NOW)
    slices, expired = waiting.take(NOW + 1, 8)
    assert [each for each, *_ in slices] == [sent[0], sent[2]]
    assert [each for each, _ in expired] == [sent[1]]
    assert waiting.rows == 0


def test_a_run_passes_over_a_bounded_number_of_others() -> None:
    waiting = queue()
    for each in (entry(SHAPES[0]), *(entry(SHAPES[1]) for _ in range(100)), entry(SHAPES[0])):
        waiting.push(each, NOW)
    assert len(taken(waiting)) == 1
    assert waiting.rows == 101


def test_windows_wait_as_if_their_request_had_arrived_when_they_do() -> None:
    """Otherwise one that has arrived earlier would have all its windows run before a later one of equal patience."""
    waiting = queue()
    early, later, windows = entry(SHAPES[2], seconds=20), entry(SHAPES[1], seconds=20), entry(SHAPES[0], seconds=20)
    later.call.arrival, later.call.deadline = NOW + 5, NOW + 25
    waiting.push(early, NOW)
    waiting.push(later, NOW + 5)
    waiting.push(windows, NOW + 6)
    assert [taken(waiting, NOW + 7)[0] for _ in range(3)] == [early, later, windows]


def test_callers_are_served_in_turns_from_the_first_on() -> None:
    waiting = queue(shared=True)
    for _ in range(8):
        waiting.push(entry(SHAPES[1], caller="large"), NOW)
    for _ in range(3):
        waiting.push(entry(SHAPES[2], caller="small"), NOW)
    order = [[each.call.caller for each in taken(waiting)] for _ in range(7)]
    # Two rows are a turn.
    assert order[:5] == [["large"] * 2, ["small"], ["small"], ["large"] * 2, ["small"]]
    assert waiting.rows == 0


def test_noise_levels_run_beside_their_rows() -> None:
    harness = ShapedHarness()
    harness.hold()
    harness.send("a", image(8, 8), levels=[0.5])
    harness.send("b", image(8, 8), levels=[0.25])
    harness.wait(3)
    harness.finish()
    assert harness.session.shapes == [(1, 2, 2), (2, 8, 8)]
    for name, level in (("a", 0.5), ("b", 0.25)):
        np.testing.assert_array_equal(harness.results[name][0][0], image(8, 8) * 2 + np.float32(level))


def test_waits_and_runs_are_counted_once() -> None:
    harness = ShapedHarness()
    harness.hold()
    call = harness.send("large", image(40, 40))
    noted: list[tuple[float, float]] = []
    note_run = call.note_run

    def note(queue_seconds: float, run_seconds: float, rows: int) -> None:
        noted.append((queue_seconds, run_seconds))
        note_run(queue_seconds, run_seconds, rows)

    call.note_run = note
    harness.wait(2)
    harness.finish()
    assert len(noted) == len(harness.session.shapes) - 1
    assert [waited > 0 for waited, _ in noted] == [True] + [False] * (len(noted) - 1)
