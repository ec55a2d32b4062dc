"""What goes wrong around a graph's queue: failures outside the graph, joint failures, hints, reasons, leftovers."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator, Sequence

import grpc
import numpy as np
import pytest

from server.batching.entry import Each, Entry
from server.batching.executor import Executor
from server.calls.call import FOREVER, Call
from server.errors import CancelledError, DeadlineError, OverloadedError
from server.execution_config import HeavyConfig
from tests.server.batching.batcher_harness import BatcherHarness, FakeGraph
from tests.server.models.test_manager import eventually

HEAVY = HeavyConfig(heavy_threads=1, max_heavy_jobs=64, max_heavy_bytes=10_000)


class Hollow(FakeGraph):
    """Gives no outputs where its rows are negative, which no graph does and nobody has thought of."""

    def run(self, batch: np.ndarray) -> Sequence[np.ndarray]:
        outputs = super().run(batch)
        return [] if (batch < 0).any() else outputs


class Loner(FakeGraph):
    """Runs one row at a time, or fails."""

    def run(self, batch: np.ndarray) -> Sequence[np.ndarray]:
        outputs = super().run(batch)
        if len(batch) > 1 and batch[0, 0] > 0:
            raise RuntimeError("together")
        return outputs


@pytest.fixture
def harness() -> Iterator[BatcherHarness]:
    made = BatcherHarness()
    yield made
    made.finish()


def desk_with(session: FakeGraph, **policy: object) -> BatcherHarness:
    harness = BatcherHarness(**policy)
    harness.session = session
    harness.batcher = harness.another()
    return harness


@pytest.mark.parametrize("inline", [False, True])
def test_an_accident_outside_the_graph_ends_its_calls_and_nothing_else(inline: bool) -> None:
    harness = desk_with(Hollow(), inline=inline)
    harness.session.gate.set()
    for name, value in (("bad", -2), ("good", 1), ("worse", -3), ("better", 2)):
        call = harness.submit(name, value)
        while call.open and name not in harness.recorder.answers:
            harness.executor.run_ready()
    harness.finish()
    assert harness.recorder.failures == dict.fromkeys(("bad", "worse"), grpc.StatusCode.INTERNAL)
    assert (harness.doubled("good"), harness.doubled("better")) == ([2], [4])


def test_batches_that_fail_only_as_wholes_tell_of_the_session() -> None:
    harness = desk_with(Loner(), inline=True)
    harness.session.gate.set()

    def run_two(value: float) -> None:
        for name in "ab":
            harness.submit(name, value)
        while harness.executor.run_ready():
            pass
        assert harness.doubled("a") == harness.doubled("b") == [2 * value]

    for value in (1, 2, 0, 3, 4):
        run_two(value)
    assert harness.recorder.broken == []
    run_two(5)
    assert [str(error) for error in harness.recorder.broken] == ["together"]
    assert harness.recorder.certain == [True]
    harness.finish()


def test_only_rows_that_go_first_count_against_a_deadline(harness: BatcherHarness) -> None:
    harness.hold()
    harness.submit("later", *[1.0] * 90, seconds=20, caller="one")
    # Ninety rows of 10 ms each run after it.
    harness.submit("soon", 2, 2, seconds=0.05, caller="one")
    # One runs, two go first, three come: 60 ms.
    with pytest.raises(OverloadedError, match="2 rows queued before it"):
        harness.submit("late", 3, 3, 3, seconds=0.055, caller="one")
    harness.submit("patient enough", 3, 3, 3, seconds=0.5, caller="one")


def test_a_hint_is_worth_something_when_other_graphs_fill_the_queue(harness: BatcherHarness) -> None:
    harness.hold()
    harness.submit("a", *[1.0] * 60)
    other = harness.another()
    call = Call("Double", 0, FOREVER, (), harness.recorder, "b", lambda *_: None)
    with pytest.raises(OverloadedError) as refused:
        other.submit(Entry(call, bytes(41 * 8), 41, lambda *_: None), time.monotonic())
    assert refused.value.details[0].retry_delay.ToNanoseconds() >= 0.5e9


def test_a_hint_is_never_nothing() -> None:
    assert OverloadedError("full", 0).details[0].retry_delay.ToNanoseconds() == 10_000_000


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda call: call.cancel(grpc.StatusCode.CANCELLED), "cancelled"),
        (lambda call: call.cancel(grpc.StatusCode.DEADLINE_EXCEEDED), "deadline"),
        (lambda call: call.stop(), "draining"),
        (lambda call: call.fail(RuntimeError("no")), "failed"),
    ],
)
def test_rows_are_dropped_for_the_reason_their_call_ended(harness: BatcherHarness, end: object, reason: str) -> None:
    harness.hold()
    end(harness.submit("gone", 1, 2))
    assert harness.recorder.drops == [(reason, 2)]
    assert harness.backlog.rows == 0


def test_the_rest_of_a_request_whose_run_has_failed_never_runs(harness: BatcherHarness) -> None:
    call = harness.submit("large", -1.0, *range(9))
    harness.finish()
    assert not call.open
    assert harness.recorder.drops == [("failed", 6)]


def test_what_a_call_held_goes_with_it(harness: BatcherHarness) -> None:
    gc.collect()
    gc.disable()
    try:
        held = []
        harness.session.gate.set()
        for number in range(3):
            rows = np.full((1, 2), number, np.float32)
            held.append(weakref.ref(rows))
            answered = threading.Event()
            call = Call("Double", 0, FOREVER, (), Mute(), "a", lambda *_: None)

            def done(
                _: Entry, outputs: Sequence[np.ndarray], call: Call = call, answered: threading.Event = answered
            ) -> None:
                call.answer(outputs[0].tobytes())
                answered.set()

            harness.batcher.submit(Entry(call, rows.data, 1, Each(done)), time.monotonic())
            assert answered.wait(10)
        del rows, call, done
        harness.finish()
        assert [ref() for ref in held] == [None] * 3
    finally:
        gc.enable()


class Mute:
    """A caller who does not listen."""

    def send_all(self, answers: object) -> None:
        """Hear nothing."""

    def fail(self, token: object, status: object) -> None:
        """Hear nothing."""


def test_heavy_work_is_bounded_and_survives_accidents() -> None:
    executor = Executor(HEAVY)
    gate, ran = threading.Event(), []

    def hold() -> None:
        gate.wait(10)

    def fail() -> None:
        raise RuntimeError("no")

    executor.offload(hold, HEAVY.max_heavy_bytes)
    with pytest.raises(OverloadedError, match="try again later") as refused:
        executor.offload(hold, 1)
    assert refused.value.details[0].HasField("retry_delay")
    executor.offload(fail)
    for number in range(HEAVY.max_heavy_jobs - 2):
        executor.offload(lambda number=number: ran.append(number))
    with pytest.raises(OverloadedError, match=f"the limits are {HEAVY.max_heavy_jobs} and"):
        executor.offload(hold)
    gate.set()
    eventually(lambda: ran == list(range(HEAVY.max_heavy_jobs - 2)))
    executor.close()


def test_work_that_belongs_to_a_job_has_had_its_turn() -> None:
    executor = Executor(HEAVY)
    gate, ran = threading.Event(), []

    def first() -> None:
        gate.wait(60)
        executor.offload(lambda: ran.append("part of the first"), HEAVY.max_heavy_bytes)

    executor.offload(first)
    # The queue is full.
    for number in range(HEAVY.max_heavy_jobs - 1):
        executor.offload(lambda number=number: ran.append(number))
    gate.set()
    eventually(lambda: ran == ["part of the first", *range(HEAVY.max_heavy_jobs - 1)])
    executor.close()


def test_who_sends_many_heavy_messages_waits_for_itself() -> None:
    executor = Executor(HEAVY)
    gate, ran = threading.Event(), []
    executor.offload(lambda: gate.wait(60))
    flood = HEAVY.max_heavy_jobs // 2 - 1
    for _ in range(flood):
        executor.offload(lambda: ran.append("flood"), 1, "flood")
    with pytest.raises(OverloadedError, match="of this caller wait"):
        executor.offload(lambda: ran.append("flood"), 1, "flood")
    for _ in range(3):
        executor.offload(lambda: ran.append("polite"), 1, "polite")
    # One large message takes as much room as many small ones.
    executor.offload(lambda: ran.append("large"), HEAVY.max_heavy_bytes // 3, "large")
    with pytest.raises(OverloadedError, match="of this caller wait"):
        executor.offload(lambda: ran.append("large"), HEAVY.max_heavy_bytes // 3, "large")
    gate.set()
    eventually(lambda: len(ran) == flood + 4)
    executor.close()
    assert [index for index, whose in enumerate(ran) if whose == "polite"] == [1, 4, 6]
    assert ran.index("large") == 2


def test_heavy_work_of_all_is_one_line_without_fairness() -> None:
    executor = Executor(HEAVY, fair=False)
    gate, ran = threading.Event(), []
    executor.offload(lambda: gate.wait(60))
    for number in range(HEAVY.max_heavy_jobs - 2):
        executor.offload(lambda number=number: ran.append(number), 1, "flood")
    executor.offload(lambda: ran.append(HEAVY.max_heavy_jobs - 2), 1, "polite")
    gate.set()
    eventually(lambda: ran == list(range(HEAVY.max_heavy_jobs - 1)))
    executor.close()


def test_closing_does_not_begin_heavy_work() -> None:
    executor = Executor(HEAVY)
    started, gate, ran = threading.Event(), threading.Event(), []

    def hold() -> None:
        started.set()
        gate.wait(10)

    executor.offload(hold)
    assert started.wait(10)
    for number in range(5):
        executor.offload(lambda number=number: ran.append(number))
    threading.Timer(0.05, gate.set).start()
    executor.close()
    assert ran == []


def test_slow_work_for_nobody_is_not_begun() -> None:
    gone = Call("Encode", 0, FOREVER, (), Mute(), "a", lambda *_: None)
    gone.check_wanted()
    gone.stop()
    with pytest.raises(CancelledError):
        gone.check_wanted()
    late = Call("Encode", 0, 1.0, (), Mute(), "a", lambda *_: None)
    with pytest.raises(DeadlineError):
        late.check_wanted()
