"""The queue of a graph, over a graph that the test can hold back."""

import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from server.batching.entry import Each, Entry
from server.calls.call import FOREVER, Call
from server.errors import DeadlineError, OverloadedError
from tests.server.batching.batcher_harness import POISON, BatcherHarness


@pytest.fixture
def harness() -> Iterator[BatcherHarness]:
    made = BatcherHarness()
    yield made
    made.finish()


def test_requests_that_wait_share_a_run(harness: BatcherHarness) -> None:
    harness.hold()
    harness.submit("a", 1)
    harness.submit("b", 2, 3)
    harness.submit("c", 4)
    harness.finish()
    assert harness.session.batches == [[100], [1, 2, 3, 4]]
    assert harness.doubled("b") == [4, 6]
    assert harness.recorder.runs == [1, 4]
    assert harness.backlog.rows == harness.batcher.queue.rows == 0


def test_the_earliest_deadline_goes_first(harness: BatcherHarness) -> None:
    harness.hold()
    harness.submit("patient", 1, 1)
    harness.submit("later", 2, 2, seconds=20)
    harness.submit("soon", 3, 3, seconds=10)
    harness.submit("too patient", 4, seconds=60)
    harness.finish()
    assert harness.session.batches == [[100], [3, 3, 2, 2], [1, 1, 4]]


def test_what_fits_into_one_run_is_not_split(harness: BatcherHarness) -> None:
    harness.hold()
    for name, rows in (("a", 3), ("b", 2), ("c", 2)):
        harness.submit(name, *[rows] * rows)
    harness.finish()
    assert harness.session.batches == [[100], [3, 3, 3], [2, 2, 2, 2]]


def test_a_large_request_is_split_and_joined_in_order() -> None:
    harness = BatcherHarness(concurrent_runs=2)
    values = [float(number) for number in range(1, 24)]
    call = harness.submit("large", *values)
    harness.finish()
    assert harness.doubled("large") == [2 * value for value in values]
    assert sorted(harness.recorder.runs) == [3, 4, 4, 4, 4, 4]
    assert call.batch_rows == 4


def test_two_runs_at_a_time_where_they_are_allowed() -> None:
    harness = BatcherHarness(concurrent_runs=2)
    harness.submit("a", 1)
    harness.submit("b", 2)
    assert harness.session.started.acquire(timeout=10)
    assert harness.session.started.acquire(timeout=10)
    harness.submit("c", 3)
    assert not harness.session.started.acquire(timeout=0.05)
    harness.finish()
    assert len(harness.session.threads) == 2


def test_what_waits_is_shared_among_idle_runs() -> None:
    harness = BatcherHarness(concurrent_runs=2, max_delay_seconds=0.2, max_rows=8)
    for number in range(4):
        harness.submit(str(number), number)
    for _ in range(2):
        assert harness.session.started.acquire(timeout=10)
    harness.finish()
    assert sorted(harness.session.batches) == [[0, 1], [2, 3]]


def test_runs_too_small_to_be_worth_it_are_not_shared() -> None:
    harness = BatcherHarness(concurrent_runs=2, max_delay_seconds=0.2, max_rows=8, shared_rows=4)
    harness.session.gate.set()
    for number in range(4):
        harness.submit(str(number), number)
    harness.finish()
    assert harness.session.batches == [[0, 1, 2, 3]]


def test_cancelled_rows_never_run(harness: BatcherHarness) -> None:
    harness.hold()
    gone = harness.submit("gone", 1, 2)
    harness.submit("stays", 3)
    gone.cancel(grpc.StatusCode.CANCELLED)
    assert harness.batcher.queue.rows == harness.backlog.rows == 1
    harness.finish()
    assert harness.session.batches == [[100], [3]]
    assert harness.recorder.drops == [("cancelled", 2)]
    assert "gone" not in harness.recorder.answers


def test_late_rows_never_run(harness: BatcherHarness) -> None:
    harness.hold()
    harness.submit("late", 1, seconds=0.02)
    harness.submit("stays", 2)
    time.sleep(0.03)
    harness.finish()
    assert harness.session.batches == [[100], [2]]
    assert harness.recorder.drops == [("deadline", 1)]
    assert harness.recorder.failures == {"late": grpc.StatusCode.DEADLINE_EXCEEDED}


def test_the_rest_of_a_large_request_leaves_when_its_caller_goes(harness: BatcherHarness) -> None:
    large = harness.submit("large", *range(10))
    assert harness.session.started.acquire(timeout=10)
    large.cancel(grpc.StatusCode.CANCELLED)
    harness.finish()
    assert harness.session.batches == [[0, 1, 2, 3]]
    assert harness.recorder.drops == [("cancelled", 6)]


def test_a_passed_deadline_is_refused(harness: BatcherHarness) -> None:
    with pytest.raises(DeadlineError):
        harness.submit("late", 1, seconds=-1)
    assert harness.recorder.drops == [("deadline", 1)]


def test_models_share_their_backlog(harness: BatcherHarness) -> None:
    harness.hold()
    harness.submit("a", *[1.0] * 60)
    harness.batcher = harness.another()
    with pytest.raises(OverloadedError, match="60 of at most 100 rows are queued for this model, no room for 41"):
        harness.submit("b", *[1.0] * 41)
    assert harness.recorder.drops == [("overload", 41)]


def test_what_cannot_finish_in_time_is_refused(harness: BatcherHarness) -> None:
    harness.hold()
    harness.submit("patient", *[1.0] * 50, caller="one")
    # Nothing with a deadline is before it: worth a try, however slow the graph is said to be.
    harness.submit("first", *[1.0] * 10, seconds=0.05, caller="one")
    with pytest.raises(OverloadedError, match=r"about 0\.1"):
        harness.submit("second", 1.0, seconds=0.05, caller="one")
    harness.submit("third", 1.0, seconds=5, caller="one")


def test_a_poisoned_request_fails_alone(harness: BatcherHarness) -> None:
    harness.hold()
    harness.submit("good", 1)
    harness.submit("bad", POISON)
    harness.submit("better", 2)
    harness.finish()
    assert harness.session.batches == [[100], [1], [2]]
    assert harness.recorder.failures == {"bad": grpc.StatusCode.INTERNAL}
    assert [str(error) for error in harness.recorder.broken] == ["poisoned"]
    assert harness.recorder.certain == [False]
    assert {"good", "better"} <= harness.recorder.answers.keys()


def test_a_failure_in_an_answer_ends_its_call_alone(harness: BatcherHarness) -> None:
    harness.hold()
    harness.submit("good", 1)
    call = Call("Double", 0, FOREVER, (), harness.recorder, "bad", lambda *_: None)
    harness.batcher.submit(Entry(call, bytes(8), 1, Each(lambda _, outputs: outputs[9])), time.monotonic())
    harness.finish()
    assert harness.doubled("good") == [2]
    assert harness.recorder.failures == {"bad": grpc.StatusCode.INTERNAL}
    assert not harness.recorder.broken


def test_quick_graphs_run_on_the_thread_that_asks() -> None:
    harness = BatcherHarness(inline=True)
    harness.session.gate.set()
    for number in range(6):
        harness.submit(str(number), number)
    assert harness.session.batches == []
    assert harness.executor.run_ready()
    assert not harness.executor.run_ready()
    assert harness.session.batches == [[0, 1, 2, 3], [4, 5]]
    assert harness.session.threads == {threading.get_ident()}
    harness.finish()


def test_a_batch_may_wait_to_fill() -> None:
    harness = BatcherHarness(max_delay_seconds=30)
    harness.session.gate.set()
    for number in range(4):
        harness.submit(str(number), number)
    harness.finish()
    assert harness.session.batches == [[0, 1, 2, 3]]


def test_a_batch_does_not_wait_longer_than_it_may() -> None:
    harness = BatcherHarness(max_delay_seconds=0.05)
    harness.session.gate.set()
    started = time.monotonic()
    harness.submit("a", 1)
    harness.submit("b", 2)
    harness.finish()
    assert harness.session.batches == [[1, 2]]
    assert time.monotonic() - started >= 0.05


def test_a_storm_of_cancelled_calls_leaves_no_litter(harness: BatcherHarness) -> None:
    harness.hold()
    for number in range(2000):
        harness.submit(str(number), number, seconds=25).cancel(grpc.StatusCode.CANCELLED)
    assert len(harness.batcher.queue) < 200
    assert harness.backlog.rows == 0
    harness.finish()
    assert harness.session.batches == [[100]]


def test_a_call_cancelled_before_it_is_queued_is_not_queued(harness: BatcherHarness) -> None:
    harness.hold()
    call = Call("Double", 0, FOREVER, (), harness.recorder, "gone", lambda *_: None)
    call.cancel(grpc.StatusCode.CANCELLED)
    harness.batcher.submit(Entry(call, bytes(8), 1, lambda *_: None), time.monotonic())
    assert harness.batcher.queue.rows == 0
