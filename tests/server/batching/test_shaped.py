"""Images of any size on their way through a graph: parts, results, and what is queued at a time."""

import threading
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from autoencoder.v1 import tiling

from server.errors import UnavailableError
from tests.server.batching.batcher_harness import POISON
from tests.server.batching.shaped_harness import ShapedHarness, image

# Windows of the harness's graph for an image of 40 x 40 pixels, and what a request has on its way at a time.
WINDOWS = 81
AHEAD = 8


@pytest.fixture
def harness() -> Iterator[ShapedHarness]:
    made = ShapedHarness()
    yield made
    made.finish()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 3), (3, 9), (17, 40), (41, 23)])
def test_an_image_of_any_size_comes_back_in_its_size(harness: ShapedHarness, size: tuple[int, int]) -> None:
    sent = image(*size)
    call = harness.send("a", sent)
    harness.wait()
    ((got,),) = harness.results["a"]
    np.testing.assert_array_equal(got, sent * 2)
    padded = harness.graph._size(sent)
    cut = tiling.is_cut(padded, harness.graph.tiling)
    assert call.tiles == (len(list(tiling.windows(padded, harness.graph.tiling))) if cut else 0)
    assert call.exact
    assert harness.idle


def test_images_of_many_sizes_come_back_in_order(harness: ShapedHarness) -> None:
    sent = [image(1 + index % 5 * 4, 3 + index // 10, index, seed=index) for index in range(60)]
    levels = [index / 100 for index in range(60)]
    harness.send("a", *sent, levels=levels)
    harness.wait()
    for each, level, (got,) in zip(sent, levels, harness.results["a"], strict=True):
        np.testing.assert_array_equal(got, each * 2 + np.float32(level))


def test_all_that_is_equally_large_shares_runs(harness: ShapedHarness) -> None:
    harness.hold()
    harness.send("large", image(12, 8))
    harness.send("tile", image(8, 8, 1))
    harness.send("padded", image(7, 7, 2))
    harness.send("other", image(4, 4, 3))
    harness.wait(5)
    assert harness.session.shapes == [(1, 2, 2), (4, 8, 8), (1, 4, 4)]
    assert harness.recorder.runs == [1, 4, 1]


def test_small_images_share_runs_of_more_rows_but_not_of_more_pixels(harness: ShapedHarness) -> None:
    harness.hold()
    harness.send("a", *[image(4, 4)] * 20)
    harness.send("b", *[image(8, 4)] * 20)
    harness.wait(3)
    assert sorted(set(harness.session.shapes)) == [(1, 2, 2), (4, 4, 4), (4, 8, 4), (8, 8, 4), (16, 4, 4)]


def test_one_request_has_a_bounded_part_of_a_large_image_queued(harness: ShapedHarness) -> None:
    harness.hold()
    call = harness.send("large", image(40, 40))
    assert harness.batcher.queue.rows == AHEAD
    assert call.tiles == AHEAD
    most = 0
    harness.session.gate.set()
    for _ in range(5):
        assert harness.session.started.acquire(timeout=10)
        most = max(most, harness.batcher.queue.rows)
    harness.wait(2)
    assert most <= AHEAD
    assert call.tiles == WINDOWS
    assert sum(harness.recorder.runs) == WINDOWS + 1
    assert harness.idle


def test_windows_of_two_large_images_alternate() -> None:
    harness = ShapedHarness()
    harness.hold()
    harness.send("a", image(40, 40, 1))
    harness.send("b", image(12, 12, 2))
    harness.wait(3)
    assert list(harness.results) == ["held", "b", "a"]
    harness.finish()


def test_a_cancelled_request_leaves_nothing(harness: ShapedHarness) -> None:
    harness.hold()
    call = harness.send("large", image(40, 40))
    call.cancel(grpc.StatusCode.CANCELLED)
    assert harness.recorder.drops == [("cancelled", AHEAD)]
    assert harness.batcher.queue.rows == 0
    harness.wait()
    harness.finish()
    assert sum(harness.recorder.runs) == 1
    assert list(harness.results) == ["held"]
    assert harness.idle


def test_a_request_cancelled_midway_runs_no_further(harness: ShapedHarness) -> None:
    call = harness.send("large", image(40, 40))
    assert harness.session.started.acquire(timeout=10)
    call.cancel(grpc.StatusCode.CANCELLED)
    harness.session.gate.set()
    harness.finish()
    assert len(harness.session.shapes) == 1
    assert harness.results == {}
    assert harness.idle


def test_a_deadline_ends_a_large_image_midway(harness: ShapedHarness) -> None:
    call = harness.send("large", image(40, 40), seconds=0.2)
    assert harness.session.started.acquire(timeout=10)
    while call.open:
        call.cancel(grpc.StatusCode.DEADLINE_EXCEEDED)
    harness.session.gate.set()
    harness.finish()
    assert {reason for reason, _ in harness.recorder.drops} == {"deadline"}
    assert harness.results == {}
    assert harness.idle


def test_windows_that_expire_in_the_queue_end_the_call(harness: ShapedHarness) -> None:
    harness.hold()
    call = harness.send("large", image(40, 40), seconds=0.2)
    assert call.open
    call.deadline = 0
    harness.wait()
    harness.finish()
    assert harness.recorder.failures == {"large": grpc.StatusCode.DEADLINE_EXCEEDED}
    assert harness.idle


def test_a_window_that_fails_ends_its_call_alone(harness: ShapedHarness) -> None:
    harness.hold()
    bad = image(20, 20)
    bad[15, 15] = POISON
    harness.send("bad", bad)
    harness.send("good", image(8, 8))
    harness.wait(2)
    harness.finish()
    assert list(harness.results) == ["held", "good"]
    assert harness.recorder.failures == {"bad": grpc.StatusCode.INTERNAL}
    assert harness.idle


def test_a_window_that_is_not_finite_ends_its_call(harness: ShapedHarness) -> None:
    bad = image(20, 20)
    bad[15, 15] = np.inf
    harness.send("bad", bad)
    harness.send("good", image(20, 20))
    harness.wait(1)
    harness.finish()
    assert list(harness.results) == ["good"]
    assert list(harness.recorder.failures) == ["bad"]
    assert harness.idle


def test_an_image_for_which_there_is_no_room_is_refused() -> None:
    harness = ShapedHarness(limit_rows=AHEAD)
    harness.hold()
    harness.send("first", image(40, 40))
    harness.send("second", image(40, 40))
    assert harness.recorder.failures == {"second": grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert harness.recorder.drops == [("overload", 1)]
    harness.wait(2)
    harness.finish()
    assert harness.idle


def test_an_image_that_cannot_be_done_in_time_is_refused_if_others_wait() -> None:
    """All its windows count, not those that are queued first."""
    harness = ShapedHarness(seconds_per_row=1.0)
    seconds = WINDOWS * harness.policy.seconds_per_row / 2
    harness.hold()
    harness.send("before", image(8, 8), seconds=seconds)
    harness.send("large", image(40, 40), seconds=seconds)
    assert harness.recorder.failures == {"large": grpc.StatusCode.RESOURCE_EXHAUSTED}
    harness.send("small", image(12, 12), seconds=seconds)
    assert list(harness.recorder.failures) == ["large"]
    harness.finish()


def test_what_has_begun_is_not_refused(harness: ShapedHarness) -> None:
    harness.hold()
    harness.send("large", image(40, 40))
    harness.backlog.limit_rows = 1
    harness.wait(2)
    assert "large" in harness.results


def test_an_image_too_large_to_run_whole_is_refused_with_the_reason() -> None:
    harness = ShapedHarness(tiled=False)
    call = harness.send("large", image(9, 7))
    assert harness.recorder.failures == {"large": grpc.StatusCode.INVALID_ARGUMENT}
    assert "images: expected images of at most 64 pixels, because the graph looks at the whole image" in call.problem
    assert "got 10 x 8" in call.problem
    harness.send("small", image(8, 8), image(1, 31))
    harness.wait()
    harness.finish()
    assert harness.session.shapes == [(1, 8, 8), (1, 2, 32)]


def test_a_thousand_sizes_leave_nothing_behind() -> None:
    # Room for all of them at once, windows included: how many wait at a time depends on the machine.
    harness = ShapedHarness(limit_rows=10**6, concurrent_runs=2)
    harness.session.gate.set()
    for index in range(1000):
        harness.send(f"{index}", image(1 + index % 25, 1 + index // 25, index), caller=str(index % 7))
    harness.wait(1000)
    harness.finish()
    assert harness.idle
    assert len(harness.results) == 1000


def test_an_abandoned_graph_ends_all_its_calls(harness: ShapedHarness) -> None:
    harness.hold()
    harness.send("large", image(40, 40))
    harness.batcher.abandon(UnavailableError("gone"), "failed")
    harness.send("late", image(8, 8))
    harness.session.gate.set()
    harness.finish()
    assert harness.recorder.failures == dict.fromkeys(("held", "large", "late"), grpc.StatusCode.UNAVAILABLE)
    assert harness.results == {}
    assert harness.idle


def test_callers_that_come_and_go_on_many_threads_get_what_they_sent() -> None:
    harness = ShapedHarness(limit_rows=10_000, concurrent_runs=4, max_rows=2)
    harness.session.gate.set()
    sent = {f"{number}": image(1 + number % 37, 1 + number % 31, number, seed=number) for number in range(120)}
    gone = {name for name in sent if int(name) % 5 == 0}

    def call(names: list[str]) -> None:
        for name in names:
            made = harness.send(name, sent[name], sent[name][:3], caller=str(len(name)))
            if name in gone:
                made.cancel(grpc.StatusCode.CANCELLED)

    threads = [threading.Thread(target=call, args=(list(sent)[first::6],)) for first in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    while not harness.results.keys() >= sent.keys() - gone:
        harness.wait()
    harness.finish()
    assert harness.recorder.failures == {}
    for name, results in harness.results.items():
        for got, expected in zip(results, (sent[name], sent[name][:3]), strict=True):
            np.testing.assert_array_equal(got[0], expected * 2)
    assert harness.idle
