"""Jobs on one thread: in order, on schedule, whatever they raise, until the executor is closed."""

import threading
import time
from collections.abc import Iterator

import pytest

from server.errors import UnavailableError
from server.models.job_thread import Guard, SerialExecutor, run_in_thread


@pytest.fixture
def executor() -> Iterator[SerialExecutor]:
    executor = SerialExecutor("test")
    executor.start()
    yield executor
    if not executor.closed:
        executor.close()


def test_jobs_run_in_order_on_one_thread(executor: SerialExecutor) -> None:
    seen: list[tuple[int, str]] = []
    for number in range(5):
        executor.submit(lambda number=number: seen.append((number, threading.current_thread().name)))
    assert executor.run(lambda: len(seen)) == 5
    assert seen == [(number, "test") for number in range(5)]


def test_a_job_that_raises_ends_nothing(executor: SerialExecutor, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OSError("the disk is gone")

    executor.submit(fail)
    assert executor.run(lambda: "next") == "next"
    assert "the disk is gone" in caplog.text
    with pytest.raises(OSError, match="the disk is gone"):
        executor.run(fail)


def test_a_scheduled_job_runs_once_and_can_be_replaced(executor: SerialExecutor) -> None:
    seen: list[str] = []
    ended = threading.Event()
    executor.run(lambda: executor.schedule(60, lambda: seen.append("replaced")))
    executor.run(lambda: executor.schedule(0.01, lambda: (seen.append("ran"), ended.set())))
    assert ended.wait(10)
    time.sleep(0.05)
    executor.run(lambda: executor.schedule(0.01, lambda: seen.append("never")))
    executor.run(lambda: executor.schedule(None, lambda: None))
    time.sleep(0.05)
    assert executor.run(lambda: seen) == ["ran"]


def test_who_waits_is_released_when_the_executor_closes(executor: SerialExecutor) -> None:
    gate = threading.Event()
    executor.submit(lambda: gate.wait(10) and None)
    waiting = run_in_thread("waiting", lambda: executor.run(lambda: None))
    executor.close()
    assert isinstance(waiting.exception(10), UnavailableError)
    with pytest.raises(UnavailableError, match="stopping"):
        executor.run(lambda: None)
    assert not executor.ends(run_in_thread("work", lambda: gate.wait(10)), 60)
    gate.set()


def test_a_failure_of_every_round_is_logged_once_until_it_has_passed(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard("looking")

    def fail() -> None:
        raise OSError("the disk fails")

    for job in (fail, fail, lambda: None, fail):
        guard.run(job)
        guard.run(job)
        guard.end_round()
    assert [record.getMessage() for record in caplog.records] == ["looking failed"] * 2
