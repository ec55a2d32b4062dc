"""A call: one request in flight, its deadline, and where its answer goes."""

import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Any, Protocol, TypeAlias

from grpc import StatusCode

from server.addresses import caller_of
from server.errors import CancelledError, DeadlineError, Status, UnavailableError, status_of
from server.model_version import ModelVersion

# A transport's own handle for a call.
Token: TypeAlias = Any
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]
FOREVER = float("inf")
STOPPED = "The server is stopping and did not answer in time: try another one."
_REQUEST_ID = "x-request-id"
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Why the rows of a call that ended with this code are dropped; any other code counts as "failed".
_DROP_REASONS = {
    StatusCode.CANCELLED: "cancelled",
    StatusCode.DEADLINE_EXCEEDED: "deadline",
    StatusCode.UNAVAILABLE: "draining",
}


class Replies(Protocol):
    """The transport's side of a call: takes answers and failures by token, from any thread."""

    def send_all(self, answers: Sequence[tuple[Token, bytes]]) -> None:
        """Answer with serialised responses."""
        ...

    def fail(self, token: Token, status: Status) -> None:
        """End with a status other than OK."""
        ...


class Queued(Protocol):
    """What a call needs to know of its rows in a queue."""

    count: int
    queued: float
    """When they were queued, a time of time.monotonic()."""

    def discard(self, reason: str) -> None:
        """Take them out of the queue."""
        ...


class Trace(Protocol):
    """The spans of one call."""

    trace_id: str

    def finish(self, call: "Call", code: str) -> None:
        """End the request's span."""
        ...


class Call:
    """A unary request; answered exactly once, by the first that tries to.

    `arrival` and `deadline` are seconds of time.monotonic(); a call without a deadline has infinity.
    """

    # Class-level defaults: a call that does not need them does not pay for them.
    peer = ""
    """Address of the caller, scheme:host:port."""
    bearer = ""
    """The caller's bearer token, if the server requires tokens."""
    served: ModelVersion | None = None
    entry: Queued | None = None
    trace: Trace | None = None
    echo = b""
    """Serialised field of the request that the answer repeats, if its protocol asks for that."""
    open = True
    queue_seconds = 0.0
    run_seconds = 0.0
    batch_rows = 0
    tiles = 0
    """Windows that its images were cut into; 0 where none was cut."""
    exact = True
    """Whether its answer has the bits that whole images in one run each would give."""
    seconds = 0.0
    """From arrival to the end; 0 until then."""
    problem = ""
    """The message that it failed with."""
    _request_id = ""

    def __init__(
        self,
        method: str,
        arrival: float,
        deadline: float,
        metadata: Metadata,
        replies: Replies,
        token: Token,
        finished: "Finished",
    ) -> None:
        self.method = method
        self.arrival = arrival
        self.deadline = deadline
        self.metadata = metadata
        self.replies = replies
        self.token = token
        self.finished = finished
        # Never released: whichever thread acquires it answers.
        self._unanswered = Lock()

    @property
    def request_id(self) -> str:
        """The caller's `x-request-id` if well-formed, otherwise a random one."""
        if not self._request_id:
            got = next((value for key, value in self.metadata if key == _REQUEST_ID), "")
            valid = isinstance(got, str) and _VALID_ID.fullmatch(got)
            self._request_id = got if isinstance(got, str) and valid else secrets.token_hex(8)
        return self._request_id

    @property
    def caller(self) -> str:
        """The identity that its rows and jobs are counted for: its token if there is one, else its host or network."""
        return self.bearer or caller_of(self.peer) or "unknown"

    def note_run(self, queue_seconds: float, run_seconds: float, rows: int) -> None:
        """Add a graph run that carried rows of this call."""
        self.queue_seconds += queue_seconds
        self.run_seconds += run_seconds
        self.batch_rows = max(self.batch_rows, rows)

    def answer(self, payload: bytes) -> None:
        """Send the response, unless the call has ended already."""
        self.answer_all([(self, payload)])

    @staticmethod
    def answer_all(answers: "Iterable[tuple[Call, bytes]]") -> None:
        """Send responses of one server that are ready together, except to calls that have ended already."""
        ended: list[Call] = []
        ready: list[tuple[Replies, list[tuple[Token, bytes]]]] = []
        for call, payload in answers:
            if not call.end():
                continue
            ended.append(call)
            if not ready or ready[-1][0] is not call.replies:
                ready.append((call.replies, []))
            ready[-1][1].append((call.token, payload))
        if ended:
            ended[0].finished(ended, "OK")
        for call in ended:
            # Each holds the other: without this, large buffers would wait for the garbage collector.
            call.entry = None
        for replies, together in ready:
            replies.send_all(together)

    def end(self) -> bool:
        """Claim the right to answer: true for the first caller only."""
        if not self._unanswered.acquire(blocking=False):
            return False
        self.open = False
        return True

    def fail(self, error: BaseException) -> None:
        """End with the status of an exception, unless the call has ended already."""
        if self.end():
            status = status_of(error, self.request_id)
            self.problem = status.message
            counted = getattr(error, "counted", None) or status.code
            self.finished([self], counted.name)
            self._drop(status.code)
            self.replies.fail(self.token, status)

    def stop(self) -> None:
        """End because the server stops, unless the call has ended already."""
        self.fail(UnavailableError(STOPPED))

    def check_wanted(self) -> None:
        """Stop slow work for a caller that has cancelled or whose deadline has passed.

        Raises:
            CancelledError: the call has ended.
            DeadlineError: its deadline has passed.
        """
        if not self.open:
            raise CancelledError("The caller has cancelled.")
        if time.monotonic() >= self.deadline:
            raise DeadlineError("The deadline has passed while the request waited.")

    def cancel(self, code: StatusCode) -> None:
        """End without an answer: the caller cancelled or its deadline passed; rows still waiting are dropped."""
        if self.end():
            self.finished([self], code.name)
            self._drop(code)

    def _drop(self, code: StatusCode) -> None:
        """Take rows that still wait out of their queue."""
        entry, self.entry = self.entry, None
        if entry is not None:
            entry.discard(_DROP_REASONS.get(code, "failed"))


# Called with calls of one server that have ended with the same code.
Finished: TypeAlias = Callable[[Sequence[Call], str], None]
