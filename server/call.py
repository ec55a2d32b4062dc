"""One request on its way: what came, until when it is worth answering, and where the answer goes."""

import re
import secrets
import time
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from grpc import StatusCode

from server.errors import CancelledError, DeadlineError, Status, UnavailableError, status_of

if TYPE_CHECKING:
    from server.models import ServedModel
    from server.row_queue import Entry
    from server.tracing import Trace

# What a transport knows its calls by.
Token: TypeAlias = Any
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]
FOREVER = float("inf")
_REQUEST_ID = "x-request-id"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Why rows are dropped whose call has ended thus; of any other end they are innocent.
_DROP_REASONS = {
    StatusCode.CANCELLED: "cancelled",
    StatusCode.DEADLINE_EXCEEDED: "deadline",
    StatusCode.UNAVAILABLE: "draining",
}


class Replies(Protocol):
    """The transport's side of a call: takes one answer or one failure for a token, from any thread."""

    def send(self, token: Token, payload: bytes) -> None:
        """Answer with a serialised response."""
        ...

    def fail(self, token: Token, status: Status) -> None:
        """End with a status other than OK."""
        ...


class Call:
    """A unary request; answered exactly once, by whoever comes first.

    `arrival` and `deadline` are seconds of time.monotonic(); a call without a deadline has infinity.
    """

    __slots__ = (
        "_finished",
        "_replies",
        "_request_id",
        "_token",
        "_unanswered",
        "arrival",
        "batch_rows",
        "deadline",
        "entry",
        "metadata",
        "method",
        "open",
        "problem",
        "queue_seconds",
        "run_seconds",
        "seconds",
        "served",
        "trace",
    )

    def __init__(
        self,
        method: str,
        arrival: float,
        deadline: float,
        metadata: Metadata,
        replies: Replies,
        token: Token,
        finished: Callable[["Call", str], None],
    ) -> None:
        self.method = method
        self.arrival = arrival
        self.deadline = deadline
        self.metadata = metadata
        self.served: ServedModel | None = None
        self.entry: Entry | None = None
        self.open = True
        self.queue_seconds = 0.0
        self.run_seconds = 0.0
        self.batch_rows = 0
        self.seconds = 0.0
        """From arrival to the end; 0 until then."""
        self.problem = ""
        """The sentence that it failed with."""
        self.trace: Trace | None = None
        self._request_id = ""
        self._replies = replies
        self._token = token
        self._finished = finished
        # Never released: the one who gets it answers.
        self._unanswered = Lock()

    @property
    def request_id(self) -> str:
        """What the log knows this call by: `x-request-id` of the caller where that is sane, else drawn."""
        if not self._request_id:
            came = next((value for key, value in self.metadata if key == _REQUEST_ID), "")
            sane = isinstance(came, str) and _SANE_ID.fullmatch(came)
            self._request_id = came if isinstance(came, str) and sane else secrets.token_hex(8)
        return self._request_id

    def note_run(self, queue_seconds: float, run_seconds: float, rows: int) -> None:
        """Add a graph run that carried rows of this call."""
        self.queue_seconds += queue_seconds
        self.run_seconds += run_seconds
        self.batch_rows = max(self.batch_rows, rows)

    def answer(self, payload: bytes) -> None:
        """Send the response, unless the call has ended already."""
        if self._unanswered.acquire(blocking=False):
            self.open = False
            self._finished(self, "OK")
            # Each holds the other: without this, large buffers would wait for the collector of cycles.
            self.entry = None
            self._replies.send(self._token, payload)

    def fail(self, error: BaseException) -> None:
        """End with the status of an exception, unless the call has ended already."""
        if self._unanswered.acquire(blocking=False):
            self.open = False
            status = status_of(error, self.request_id)
            self.problem = status.message
            self._finished(self, status.code.name)
            self._drop(status.code)
            self._replies.fail(self._token, status)

    def stop(self) -> None:
        """End because the server stops, unless the call has ended already."""
        self.fail(UnavailableError("The server is stopping and has not answered in time: try another one."))

    def check_wanted(self) -> None:
        """Refuse to go on with slow work for a caller who has gone or no longer waits.

        Raises:
            CancelledError: the call has ended.
            DeadlineError: its deadline has passed.
        """
        if not self.open:
            raise CancelledError("The caller has gone.")
        if time.monotonic() >= self.deadline:
            raise DeadlineError("The deadline has passed while the request waited.")

    def cancel(self, code: StatusCode) -> None:
        """End without an answer: the caller is gone or its deadline has passed; rows still waiting are dropped."""
        if self._unanswered.acquire(blocking=False):
            self.open = False
            self._finished(self, code.name)
            self._drop(code)

    def _drop(self, code: StatusCode) -> None:
        """Take rows that still wait out of their queue."""
        entry, self.entry = self.entry, None
        if entry is not None:
            entry.batcher.discard(entry, _DROP_REASONS.get(code, "failed"))
