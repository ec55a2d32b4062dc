"""Lifecycle of a model version: a state machine with a reason for each state, and backoff between retries.

    PENDING      -> LOADING       a load starts
    LOADING      -> READY         it has passed every check
                 -> REJECTED      the bundle is wrong
                 -> BACKING_OFF   memory, the disk or the device has failed
    READY        -> RETESTING     a run has failed: the request or the session is at fault
                 -> PENDING       a run has failed that no request can have caused
                 -> HUNG          a run exceeds its time limit
    RETESTING    -> READY         the self-test passes: the request was at fault
                 -> PENDING       the self-test fails: the session was at fault
                 -> HUNG          a run exceeds its time limit
    HUNG         -> LOADING       the run has ended and a load starts
                 -> PENDING       the run has ended while other versions serve instead
    REJECTED     -> LOADING       its files have changed and a load starts
                 -> PENDING       an operator asks for a retry, or other versions serve instead
    BACKING_OFF  -> LOADING       the retry is due and a load starts
                 -> PENDING       an operator asks for a retry, or other versions serve instead
    UNLOADED     -> HUNG          an operator loads the model again while the run still hangs
    any          -> UNLOADED      an operator unloads the model

A version serves in READY and RETESTING. A record is deleted when the files of its version are, when another version
replaces it, and when an operator loads a model that was unloaded; until then, UNLOADED keeps new files from loading.
"""

import re
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from bundle.errors import printable
from bundle.files import FileIdentity
from server.models.job_thread import ThreadStartError
from server.runtime.session import DeviceError

Key: TypeAlias = tuple[str, int]
Fingerprint: TypeAlias = tuple[FileIdentity | None, ...]
"""Identities of a version's files, model.json's first: it changes when one is replaced, written or deleted."""

LOADING = "it is being loaded"
"""Why a version that has not failed before does not serve yet."""
_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 60.0
_HUNG_POLL_SECONDS = 1.0
# A reason goes into the log, the text of /readyz, the index and the errors of requests, and repeats what a file says.
_MAX_REASON_CHARACTERS = 300
# onnxruntime says only in its message that memory, threads or the device are exhausted.
_EXHAUSTED = re.compile(
    r"allocat|bad_alloc|out of memory|pthread_create|temporarily unavailable|CUDA failure|CUDNN_STATUS", re.IGNORECASE
)


class State(Enum):
    """Where a version is in its lifecycle."""

    PENDING = "pending"
    LOADING = "loading"
    READY = "ready"
    RETESTING = "retesting"
    HUNG = "hung"
    REJECTED = "rejected"
    BACKING_OFF = "backing off"
    UNLOADED = "unloaded"


class Event(Enum):
    """What takes a version from one state to another."""

    START_LOAD = "start to load"
    BECOME_READY = "become ready"
    REJECT = "be rejected"
    BACK_OFF = "back off"
    RETEST = "be retested"
    PASS_RETEST = "pass its retest"  # noqa: S105 (no password)
    FAIL_SESSION = "lose its session"
    HANG = "hang"
    RETRY = "be retried"
    UNLOAD = "be unloaded"


TRANSITIONS: dict[Event, tuple[frozenset[State], State]] = {
    Event.START_LOAD: (frozenset({State.PENDING, State.HUNG, State.REJECTED, State.BACKING_OFF}), State.LOADING),
    Event.BECOME_READY: (frozenset({State.LOADING}), State.READY),
    Event.REJECT: (frozenset({State.LOADING}), State.REJECTED),
    Event.BACK_OFF: (frozenset({State.LOADING}), State.BACKING_OFF),
    Event.RETEST: (frozenset({State.READY}), State.RETESTING),
    Event.PASS_RETEST: (frozenset({State.RETESTING}), State.READY),
    Event.FAIL_SESSION: (frozenset({State.READY, State.RETESTING}), State.PENDING),
    Event.HANG: (frozenset({State.READY, State.RETESTING, State.UNLOADED}), State.HUNG),
    Event.RETRY: (frozenset({State.HUNG, State.REJECTED, State.BACKING_OFF}), State.PENDING),
    Event.UNLOAD: (frozenset(State), State.UNLOADED),
}
"""The states in which an event is legal, and the state that follows."""


class Unavailable(NamedTuple):
    """Why a version does not serve."""

    state: State
    reason: str


class IllegalTransitionError(Exception):
    """An event is illegal in the current state: a bug in the manager."""


class Backoff:
    """Exponential backoff between retries: 1 s, then twice as long each time, 60 s at most."""

    def __init__(self) -> None:
        self._seconds = _FIRST_RETRY_SECONDS
        self.retry_at = 0.0
        """When the next retry is due, a time of time.monotonic()."""

    def fail(self, now: float) -> None:
        """Put the next retry off, for longer than the last one."""
        self.retry_at = now + self._seconds
        self._seconds = min(2 * self._seconds, _LAST_RETRY_SECONDS)


@dataclass(eq=False)
class Attempt:
    """One load of a version, and the identity of the sessions that it makes: it holds no reference to them."""

    fingerprint: Fingerprint
    """Of the files when the load began, or when they were last compared with what serves."""
    cancelled: bool = False
    """Set when the outcome is no longer needed."""
    muted_until: float = 0.0
    """Failed runs are not reported before, a time of time.monotonic()."""


@dataclass(eq=False)
class Comparison:
    """Reads the files of a version that serves on another thread: large ones, or a slow disk, hold up nothing else."""

    fingerprint: Fingerprint
    """Of the files when it began."""
    same: Future[bool]
    """Whether they are those that were loaded."""
    load: bool = False
    """Whether to load them if they are not."""


class _HasRuns(Protocol):
    @property
    def busy(self) -> bool:
        """Whether a graph runs now."""
        ...


Served = TypeVar("Served", bound=_HasRuns)


@dataclass(eq=False)
class VersionRecord(Generic[Served]):
    """State of one version. It has no lock: only the thread of the manager may touch it."""

    key: Key
    state: State = State.PENDING
    reason: str = LOADING
    """Why it does not serve; of no meaning while it does."""
    attempt: Attempt | None = None
    """The latest load."""
    outcome: Future[Served] | None = None
    """Of the load that is under way."""
    served: Served | None = None
    """The loaded version, kept while it serves and while a run of it hangs."""
    note: str = ""
    """What an operator should know of a version that serves: its files are not those that were loaded."""
    comparison: Comparison | None = None
    """Of what serves with files that seem to have changed, while it is under way."""
    successor: "VersionRecord[Served] | None" = None
    """A load of changed files, which takes this one's place when it succeeds: what serves is always one load."""
    backoff: Backoff = field(default_factory=Backoff)

    @property
    def serving(self) -> Served | None:
        """The loaded version, if requests may reach it."""
        return self.served if self.state in {State.READY, State.RETESTING} else None

    @property
    def has_failed(self) -> bool:
        """Whether the latest load has failed."""
        return self.state in {State.REJECTED, State.BACKING_OFF}

    @property
    def busy(self) -> bool:
        """Whether a run is under way in what was loaded."""
        return self.served is not None and self.served.busy

    def should_load(self, fingerprint: Fingerprint, now: float) -> bool:
        """Whether a load is due, given the version's present files and the time of time.monotonic()."""
        if self.state is State.REJECTED:
            return self.attempt is None or self.attempt.fingerprint != fingerprint
        if self.state is State.BACKING_OFF:
            return now >= self.backoff.retry_at
        if self.state is State.HUNG:
            return not self.busy
        return self.state is State.PENDING

    def seconds_to_next(self, now: float) -> float | None:
        """Time until this version needs another look, never short; None when only its files can change anything."""
        if self.state is State.BACKING_OFF:
            return max(self.backoff.retry_at - now, _FIRST_RETRY_SECONDS)
        return _HUNG_POLL_SECONDS if self.state is State.HUNG else None

    def start_load(self, attempt: Attempt, outcome: Future[Served]) -> None:
        """Note that a load has started; the reason of an earlier failure stays until its outcome is known."""
        self._apply(Event.START_LOAD)
        self.attempt, self.outcome, self.served = attempt, outcome, None

    def become_ready(self, served: Served) -> None:
        """Serve what the load has produced."""
        self._apply(Event.BECOME_READY)
        self.served, self.outcome, self.backoff = served, None, Backoff()

    def fail(self, reason: str, now: float, *, transient: bool) -> None:
        """Note why the load has failed: retry later when the machine may be at fault, else when the files change."""
        self._apply(Event.BACK_OFF if transient else Event.REJECT)
        self.reason, self.outcome = reason, None
        if transient:
            self.backoff.fail(now)
        else:
            self.backoff = Backoff()

    def retest(self) -> None:
        """Serve on while a self-test finds out whether the session still works."""
        self._apply(Event.RETEST)

    def pass_retest(self) -> None:
        """Serve on."""
        self._apply(Event.PASS_RETEST)

    def fail_session(self, reason: str) -> None:
        """Serve no longer; a new session is due at once."""
        self._apply(Event.FAIL_SESSION)
        self._leave_service(reason)
        self.served = None

    def hang(self, reason: str) -> None:
        """Serve no longer; a new session is due when the run has ended."""
        self._apply(Event.HANG)
        self._leave_service(reason)

    def retry(self) -> None:
        """Forget the failure, not its reason: a load is due as soon as the policy selects the version."""
        self._apply(Event.RETRY)
        self.served, self.backoff = None, Backoff()

    def unload(self) -> None:
        """Serve no longer on request. A run that hangs is remembered."""
        self.cancel()
        if self.state not in {State.HUNG, State.UNLOADED}:
            self.served = None
        self._apply(Event.UNLOAD)
        self.outcome, self.note = None, ""

    def cancel(self) -> None:
        """End the loads that are under way."""
        if self.state is State.LOADING and self.attempt is not None:
            self.attempt.cancelled = True
        self.comparison = None
        if self.successor is not None:
            self.successor.cancel()
            self.successor = None

    def _leave_service(self, reason: str) -> None:
        self.cancel()
        self.reason, self.note = reason, ""

    def _apply(self, event: Event) -> None:
        legal, state = TRANSITIONS[event]
        if self.state not in legal:
            name, version = self.key
            raise IllegalTransitionError(f"{name} version {version} cannot {event.value} while {self.state.value}")
        self.state = state


def brief(text: str) -> str:
    """Bound a text that repeats what a stranger wrote, on one line and without characters that cannot be shown."""
    shown = printable(text[: 2 * _MAX_REASON_CHARACTERS])
    return shown if len(shown) <= _MAX_REASON_CHARACTERS else f"{shown[: _MAX_REASON_CHARACTERS - 1]}…"


def is_transient(error: BaseException) -> bool:
    """Whether the machine may be at fault: its device, its disk, its memory or its limit of threads."""
    if isinstance(error, (DeviceError, MemoryError, ThreadStartError)) or _EXHAUSTED.search(str(error)):
        return True
    if isinstance(error, OSError):
        return not isinstance(error, FileNotFoundError)
    return error.__cause__ is not None and is_transient(error.__cause__)
