"""The state machine of a version: each event in each state, what is due when, and backoff."""

import re
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import pytest

from bundle.files import FileIdentity
from server.models import lifecycle
from server.models.job_thread import ThreadStartError
from server.models.lifecycle import (
    LOADING,
    TRANSITIONS,
    Attempt,
    Event,
    IllegalTransitionError,
    State,
    VersionRecord,
    brief,
    is_transient,
)
from server.runtime.session import DeviceError

S = State
BEFORE, AFTER = (FileIdentity(1, 1, 1),), (FileIdentity(1, 1, 2),)


@dataclass(eq=False)
class Version:
    """A loaded version."""

    busy: bool = False


Record = VersionRecord[Version]


def reject(record: Record, now: float = 0.0) -> None:
    record.fail("the bundle is wrong", now, transient=False)


def back_off(record: Record, now: float = 0.0) -> None:
    record.fail("out of memory", now, transient=True)


APPLY: dict[Event, Callable[[Record], None]] = {
    Event.START_LOAD: lambda record: record.start_load(Attempt(BEFORE), Future()),
    Event.BECOME_READY: lambda record: record.become_ready(Version()),
    Event.REJECT: reject,
    Event.BACK_OFF: back_off,
    Event.RETEST: VersionRecord.retest,
    Event.PASS_RETEST: VersionRecord.pass_retest,
    Event.FAIL_SESSION: lambda record: record.fail_session("its session has failed"),
    Event.HANG: lambda record: record.hang("a run does not end"),
    Event.RETRY: VersionRecord.retry,
    Event.UNLOAD: VersionRecord.unload,
}
# What follows each event, in the order of the columns; None where it is illegal.
STATES = (S.PENDING, S.LOADING, S.READY, S.RETESTING, S.HUNG, S.REJECTED, S.BACKING_OFF, S.UNLOADED)
TABLE = {
    Event.START_LOAD: (S.LOADING, None, None, None, S.LOADING, S.LOADING, S.LOADING, None),
    Event.BECOME_READY: (None, S.READY, None, None, None, None, None, None),
    Event.REJECT: (None, S.REJECTED, None, None, None, None, None, None),
    Event.BACK_OFF: (None, S.BACKING_OFF, None, None, None, None, None, None),
    Event.RETEST: (None, None, S.RETESTING, None, None, None, None, None),
    Event.PASS_RETEST: (None, None, None, S.READY, None, None, None, None),
    Event.FAIL_SESSION: (None, None, S.PENDING, S.PENDING, None, None, None, None),
    Event.HANG: (None, None, S.HUNG, S.HUNG, None, None, None, S.HUNG),
    Event.RETRY: (None, None, None, None, S.PENDING, S.PENDING, S.PENDING, None),
    Event.UNLOAD: (S.UNLOADED,) * 8,
}
PATHS = {
    S.PENDING: (),
    S.LOADING: (Event.START_LOAD,),
    S.READY: (Event.START_LOAD, Event.BECOME_READY),
    S.RETESTING: (Event.START_LOAD, Event.BECOME_READY, Event.RETEST),
    S.HUNG: (Event.START_LOAD, Event.BECOME_READY, Event.HANG),
    S.REJECTED: (Event.START_LOAD, Event.REJECT),
    S.BACKING_OFF: (Event.START_LOAD, Event.BACK_OFF),
    S.UNLOADED: (Event.UNLOAD,),
}


def record_in(state: State) -> Record:
    record: Record = VersionRecord(("vae", 3))
    for event in PATHS[state]:
        APPLY[event](record)
    assert record.state is state
    return record


@pytest.mark.parametrize(("event", "column"), [(event, column) for event in Event for column in range(8)])
def test_an_event_leads_to_a_state_or_is_illegal_and_changes_nothing(event: Event, column: int) -> None:
    state, after = STATES[column], TABLE[event][column]
    record = record_in(state)
    if after is not None:
        APPLY[event](record)
        assert record.state is after
        return
    with pytest.raises(IllegalTransitionError, match=f"vae version 3 cannot {event.value} while {state.value}"):
        APPLY[event](record)
    assert record.state is state


def test_the_page_draws_the_table() -> None:
    drawn, source = set(), ""
    for line in (lifecycle.__doc__ or "").splitlines():
        if arrow := re.match(r"    (\w*) +-> (\w+)", line):
            source = arrow[1] or source
            drawn |= {(before, S[arrow[2]]) for before in (S if source == "any" else (S[source],))}
    assert drawn == {(before, after) for legal, after in TRANSITIONS.values() for before in legal}


@pytest.mark.parametrize("state", State)
def test_what_serves(state: State) -> None:
    record = record_in(state)
    assert (record.serving is not None) == (state in {S.READY, S.RETESTING})
    # Nothing else holds the memory of what was loaded, but that the end of a run must be noticed.
    assert (record.served is not None) == (state in {S.READY, S.RETESTING, S.HUNG})
    assert (record.outcome is not None) == (state is S.LOADING)
    assert record.has_failed == (state in {S.REJECTED, S.BACKING_OFF})


@pytest.mark.parametrize(
    ("state", "same", "changed"),
    [
        (S.PENDING, True, True),
        (S.LOADING, False, False),
        (S.READY, False, False),
        (S.RETESTING, False, False),
        (S.HUNG, True, True),
        (S.REJECTED, False, True),
        (S.BACKING_OFF, False, False),
        (S.UNLOADED, False, False),
    ],
)
def test_when_a_load_is_due(state: State, *, same: bool, changed: bool) -> None:
    record = record_in(state)
    assert record.should_load(BEFORE, 0.5) == same
    assert record.should_load(AFTER, 0.5) == changed
    # The backoff ends after a second, whatever the files are.
    assert record.should_load(BEFORE, 1.0) == (same or state is S.BACKING_OFF)


def test_reasons() -> None:
    record = record_in(S.LOADING)
    assert record.reason == LOADING
    back_off(record)
    assert record.reason == "out of memory"
    # The reason of a failure is shown until another outcome is known.
    record.start_load(Attempt(BEFORE), Future())
    assert (record.state, record.reason) == (S.LOADING, "out of memory")
    reject(record)
    record.retry()
    assert (record.state, record.reason) == (S.PENDING, "the bundle is wrong")


def test_a_hung_version_waits_for_its_run() -> None:
    record = record_in(S.READY)
    assert record.served is not None
    record.served.busy = True
    record.hang("a run does not end")
    assert record.busy
    assert not record.should_load(AFTER, 1e9)
    assert record.seconds_to_next(0) == 1
    # Unloading it and loading it again does not make a second session while the first one runs.
    record.unload()
    assert record.busy
    record.hang(record.reason)
    assert not record.should_load(BEFORE, 1e9)
    record.served.busy = False
    assert record.should_load(BEFORE, 0)
    assert record.reason == "a run does not end"


def test_unloading_and_dropping_cancel_a_load() -> None:
    for end in (VersionRecord.unload, VersionRecord.cancel):
        record = record_in(S.LOADING)
        attempt = record.attempt
        assert attempt is not None
        assert not attempt.cancelled
        end(record)
        assert attempt.cancelled
    served = record_in(S.READY)
    served.cancel()
    assert served.attempt is not None
    assert not served.attempt.cancelled


def test_causes_of_a_failed_load() -> None:
    wrapped = RuntimeError("the graph is refused")
    wrapped.__cause__ = RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 64")
    threads = RuntimeError("pthread_create failed, error code: 11 error msg: Resource temporarily unavailable")
    assert all(map(is_transient, (wrapped, MemoryError(), DeviceError("gone"), OSError(5, "I/O error"))))
    assert all(map(is_transient, (threads, ThreadStartError("can't start new thread"))))
    assert not any(map(is_transient, (FileNotFoundError(2, "none"), ValueError("shape"), RuntimeError("bad node"))))


def waits(record: Record, count: int) -> list[float | None]:
    """Seconds to the next retry after each of several failures."""
    found = []
    for _ in range(count):
        record.start_load(Attempt(BEFORE), Future())
        back_off(record, now=100.0)
        found.append(record.seconds_to_next(100.0))
    return found


def test_retries_come_ever_less_often() -> None:
    record = record_in(S.PENDING)
    assert waits(record, 9) == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert not record.should_load(AFTER, 159.9)
    # Never a busy loop, however late it is.
    assert record.seconds_to_next(1e9) == 1


@pytest.mark.parametrize("end", [Event.BECOME_READY, Event.REJECT, Event.RETRY])
def test_backoff_starts_again(end: Event) -> None:
    record = record_in(S.PENDING)
    waits(record, 3)
    if end is Event.RETRY:
        record.retry()
    else:
        record.start_load(Attempt(BEFORE), Future())
        APPLY[end](record)
    assert record.seconds_to_next(100.0) is None
    if end is Event.BECOME_READY:
        record.fail_session("its session has failed")
    assert waits(record, 2) == [1, 2]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("golden.npz is missing", "golden.npz is missing"),
        ("two\nlines \x1b[31m \udcff é", r"two\nlines \x1b[31m \udcff é"),
        ("x" * 300, "x" * 300),
        ("x" * 5_000_000, "x" * 299 + "…"),
    ],
)
def test_reasons_are_one_line_of_bounded_length(text: str, shown: str) -> None:
    assert brief(text) == shown


@pytest.mark.parametrize("end", [Event.FAIL_SESSION, Event.HANG, Event.UNLOAD])
def test_a_load_of_changed_files_ends_with_the_service_of_its_version(end: Event) -> None:
    record, successor = record_in(S.READY), record_in(S.LOADING)
    record.note, record.successor = "its files have changed", successor
    APPLY[end](record)
    assert (record.note, record.successor) == ("", None)
    assert successor.attempt is not None
    assert successor.attempt.cancelled
