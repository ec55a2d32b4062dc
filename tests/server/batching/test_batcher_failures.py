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
from server.config import HeavyConfig
from server.errors import CancelledError, DeadlineError, OverloadedError
from tests.server.batching.batcher_harness import Desk, Doubling
from tests.server.models.test_manager import until

HEAVY = HeavyConfig(heavy_threads=1, max_heavy_jobs=64, max_heavy_bytes=10_000)


class Hollow(Doubling):
    """Gives no outputs where its rows are negative, which no graph does and nobody has thought of."""

    def run(self, batch: np.ndarray) -> Sequence[np.ndarray]:
        outputs = super().run(batch)
        return [] if (batch < 0).any() else outputs


class Loner(Doubling):
    """Runs one row at a time, or fails."""

    def run(self, batch: np.ndarray) -> Sequence[np.ndarray]:
        outputs = super().run(batch)
        if len(batch) > 1 and batch[0, 0] > 0:
            raise RuntimeError("together")
        return outputs


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.finish()


def desk_with(session: Doubling, **plan: object) -> Desk:
    desk = Desk(**plan)
    desk.session = session
    desk.batcher = desk.another()
    return desk


@pytest.mark.parametrize("inline", [False, True])
def test_an_accident_outside_the_graph_ends_its_calls_and_nothing_else(inline: bool) -> None:
    desk = desk_with(Hollow(), inline=inline)
    desk.session.gate.set()
    for name, value in (("bad", -2), ("good", 1), ("worse", -3), ("better", 2)):
        call = desk.submit(name, value)
        while call.open and name not in desk.book.answers:
            desk.executor.run_ready()
    desk.finish()
    assert desk.book.failures == dict.fromkeys(("bad", "worse"), grpc.StatusCode.INTERNAL)
    assert (desk.doubled("good"), desk.doubled("better")) == ([2], [4])


def test_batches_that_fail_only_as_wholes_tell_of_the_session() -> None:
    desk = desk_with(Loner(), inline=True)
    desk.session.gate.set()

    def run_two(value: float) -> None:
        for name in "ab":
            desk.submit(name, value)
        while desk.executor.run_ready():
            pass
        assert desk.doubled("a") == desk.doubled("b") == [2 * value]

    for value in (1, 2, 0, 3, 4):
        run_two(value)
    assert desk.book.broken == []
    run_two(5)
    assert [str(error) for error in desk.book.broken] == ["together"]
    assert desk.book.certain == [True]
    desk.finish()


def test_only_rows_that_go_first_count_against_a_deadline(desk: Desk) -> None:
    desk.hold()
    desk.submit("later", *[1.0] * 90, seconds=20, caller="one")
    # Ninety rows of 10 ms each run after it.
    desk.submit("soon", 2, 2, seconds=0.05, caller="one")
    # One runs, two go first, three come: 60 ms.
    with pytest.raises(OverloadedError, match="2 rows queued before it"):
        desk.submit("late", 3, 3, 3, seconds=0.055, caller="one")
    desk.submit("patient enough", 3, 3, 3, seconds=0.5, caller="one")


def test_a_hint_is_worth_something_when_other_graphs_fill_the_queue(desk: Desk) -> None:
    desk.hold()
    desk.submit("a", *[1.0] * 60)
    other = desk.another()
    call = Call("Double", 0, FOREVER, (), desk.book, "b", lambda *_: None)
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
def test_rows_are_dropped_for_the_reason_that_ended_their_call(desk: Desk, end: object, reason: str) -> None:
    desk.hold()
    end(desk.submit("gone", 1, 2))
    assert desk.book.drops == [(reason, 2)]
    assert desk.backlog.rows == 0


def test_the_rest_of_a_request_whose_run_has_failed_never_runs(desk: Desk) -> None:
    call = desk.submit("large", -1.0, *range(9))
    desk.finish()
    assert not call.open
    assert desk.book.drops == [("failed", 6)]


def test_what_a_call_held_goes_with_it(desk: Desk) -> None:
    gc.collect()
    gc.disable()
    try:
        held = []
        desk.session.gate.set()
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

            desk.batcher.submit(Entry(call, rows.data, 1, Each(done)), time.monotonic())
            assert answered.wait(10)
        del rows, call, done
        desk.finish()
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
    until(lambda: ran == list(range(HEAVY.max_heavy_jobs - 2)))
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
    until(lambda: len(ran) == flood + 4)
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
    until(lambda: ran == list(range(HEAVY.max_heavy_jobs - 1)))
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
