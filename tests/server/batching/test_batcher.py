"""The queue of a graph, over a graph that the test can hold back."""

import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from server.batching.entry import Each, Entry
from server.calls.call import FOREVER, Call
from server.errors import DeadlineError, OverloadedError
from tests.server.batching.batcher_harness import POISON, Desk


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.finish()


def test_requests_that_wait_share_a_run(desk: Desk) -> None:
    desk.hold()
    desk.submit("a", 1)
    desk.submit("b", 2, 3)
    desk.submit("c", 4)
    desk.finish()
    assert desk.session.batches == [[100], [1, 2, 3, 4]]
    assert desk.doubled("b") == [4, 6]
    assert desk.book.runs == [1, 4]
    assert desk.backlog.rows == desk.batcher.queue.rows == 0


def test_the_earliest_deadline_goes_first(desk: Desk) -> None:
    desk.hold()
    desk.submit("patient", 1, 1)
    desk.submit("later", 2, 2, seconds=20)
    desk.submit("soon", 3, 3, seconds=10)
    desk.submit("too patient", 4, seconds=60)
    desk.finish()
    assert desk.session.batches == [[100], [3, 3, 2, 2], [1, 1, 4]]


def test_what_fits_into_one_run_is_not_split(desk: Desk) -> None:
    desk.hold()
    for name, rows in (("a", 3), ("b", 2), ("c", 2)):
        desk.submit(name, *[rows] * rows)
    desk.finish()
    assert desk.session.batches == [[100], [3, 3, 3], [2, 2, 2, 2]]


def test_a_large_request_is_split_and_joined_in_order() -> None:
    desk = Desk(concurrent_runs=2)
    values = [float(number) for number in range(1, 24)]
    call = desk.submit("large", *values)
    desk.finish()
    assert desk.doubled("large") == [2 * value for value in values]
    assert sorted(desk.book.runs) == [3, 4, 4, 4, 4, 4]
    assert call.batch_rows == 4


def test_two_runs_at_a_time_where_they_are_allowed() -> None:
    desk = Desk(concurrent_runs=2)
    desk.submit("a", 1)
    desk.submit("b", 2)
    assert desk.session.started.acquire(timeout=10)
    assert desk.session.started.acquire(timeout=10)
    desk.submit("c", 3)
    assert not desk.session.started.acquire(timeout=0.05)
    desk.finish()
    assert len(desk.session.threads) == 2


def test_what_waits_is_shared_among_idle_runs() -> None:
    desk = Desk(concurrent_runs=2, max_delay_seconds=0.2, max_rows=8)
    for number in range(4):
        desk.submit(str(number), number)
    for _ in range(2):
        assert desk.session.started.acquire(timeout=10)
    desk.finish()
    assert sorted(desk.session.batches) == [[0, 1], [2, 3]]


def test_runs_too_small_to_be_worth_it_are_not_shared() -> None:
    desk = Desk(concurrent_runs=2, max_delay_seconds=0.2, max_rows=8, shared_rows=4)
    desk.session.gate.set()
    for number in range(4):
        desk.submit(str(number), number)
    desk.finish()
    assert desk.session.batches == [[0, 1, 2, 3]]


def test_cancelled_rows_never_run(desk: Desk) -> None:
    desk.hold()
    gone = desk.submit("gone", 1, 2)
    desk.submit("stays", 3)
    gone.cancel(grpc.StatusCode.CANCELLED)
    assert desk.batcher.queue.rows == desk.backlog.rows == 1
    desk.finish()
    assert desk.session.batches == [[100], [3]]
    assert desk.book.drops == [("cancelled", 2)]
    assert "gone" not in desk.book.answers


def test_late_rows_never_run(desk: Desk) -> None:
    desk.hold()
    desk.submit("late", 1, seconds=0.02)
    desk.submit("stays", 2)
    time.sleep(0.03)
    desk.finish()
    assert desk.session.batches == [[100], [2]]
    assert desk.book.drops == [("deadline", 1)]
    assert desk.book.failures == {"late": grpc.StatusCode.DEADLINE_EXCEEDED}


def test_the_rest_of_a_large_request_leaves_when_its_caller_goes(desk: Desk) -> None:
    large = desk.submit("large", *range(10))
    assert desk.session.started.acquire(timeout=10)
    large.cancel(grpc.StatusCode.CANCELLED)
    desk.finish()
    assert desk.session.batches == [[0, 1, 2, 3]]
    assert desk.book.drops == [("cancelled", 6)]


def test_a_passed_deadline_is_refused(desk: Desk) -> None:
    with pytest.raises(DeadlineError):
        desk.submit("late", 1, seconds=-1)
    assert desk.book.drops == [("deadline", 1)]


def test_models_share_their_backlog(desk: Desk) -> None:
    desk.hold()
    desk.submit("a", *[1.0] * 60)
    desk.batcher = desk.another()
    with pytest.raises(OverloadedError, match="60 of at most 100 rows are queued for this model, no room for 41"):
        desk.submit("b", *[1.0] * 41)
    assert desk.book.drops == [("overload", 41)]


def test_what_cannot_finish_in_time_is_refused(desk: Desk) -> None:
    desk.hold()
    desk.submit("patient", *[1.0] * 50, caller="one")
    # Nothing with a deadline is before it: worth a try, however slow the graph is said to be.
    desk.submit("first", *[1.0] * 10, seconds=0.05, caller="one")
    with pytest.raises(OverloadedError, match=r"about 0\.1"):
        desk.submit("second", 1.0, seconds=0.05, caller="one")
    desk.submit("third", 1.0, seconds=5, caller="one")


def test_a_poisoned_request_fails_alone(desk: Desk) -> None:
    desk.hold()
    desk.submit("good", 1)
    desk.submit("bad", POISON)
    desk.submit("better", 2)
    desk.finish()
    assert desk.session.batches == [[100], [1], [2]]
    assert desk.book.failures == {"bad": grpc.StatusCode.INTERNAL}
    assert [str(error) for error in desk.book.broken] == ["poisoned"]
    assert desk.book.certain == [False]
    assert {"good", "better"} <= desk.book.answers.keys()


def test_a_failure_in_an_answer_ends_its_call_alone(desk: Desk) -> None:
    desk.hold()
    desk.submit("good", 1)
    call = Call("Double", 0, FOREVER, (), desk.book, "bad", lambda *_: None)
    desk.batcher.submit(Entry(call, bytes(8), 1, Each(lambda _, outputs: outputs[9])), time.monotonic())
    desk.finish()
    assert desk.doubled("good") == [2]
    assert desk.book.failures == {"bad": grpc.StatusCode.INTERNAL}
    assert not desk.book.broken


def test_quick_graphs_run_on_the_thread_that_asks() -> None:
    desk = Desk(inline=True)
    desk.session.gate.set()
    for number in range(6):
        desk.submit(str(number), number)
    assert desk.session.batches == []
    assert desk.executor.run_ready()
    assert not desk.executor.run_ready()
    assert desk.session.batches == [[0, 1, 2, 3], [4, 5]]
    assert desk.session.threads == {threading.get_ident()}
    desk.finish()


def test_a_batch_may_wait_to_fill() -> None:
    desk = Desk(max_delay_seconds=30)
    desk.session.gate.set()
    for number in range(4):
        desk.submit(str(number), number)
    desk.finish()
    assert desk.session.batches == [[0, 1, 2, 3]]


def test_a_batch_does_not_wait_longer_than_it_may() -> None:
    desk = Desk(max_delay_seconds=0.05)
    desk.session.gate.set()
    started = time.monotonic()
    desk.submit("a", 1)
    desk.submit("b", 2)
    desk.finish()
    assert desk.session.batches == [[1, 2]]
    assert time.monotonic() - started >= 0.05


def test_a_storm_of_cancelled_calls_leaves_no_litter(desk: Desk) -> None:
    desk.hold()
    for number in range(2000):
        desk.submit(str(number), number, seconds=25).cancel(grpc.StatusCode.CANCELLED)
    assert len(desk.batcher.queue) < 200
    assert desk.backlog.rows == 0
    desk.finish()
    assert desk.session.batches == [[100]]


def test_a_call_cancelled_before_it_is_queued_is_not_queued(desk: Desk) -> None:
    desk.hold()
    call = Call("Double", 0, FOREVER, (), desk.book, "gone", lambda *_: None)
    call.cancel(grpc.StatusCode.CANCELLED)
    desk.batcher.submit(Entry(call, bytes(8), 1, lambda *_: None), time.monotonic())
    assert desk.batcher.queue.rows == 0
