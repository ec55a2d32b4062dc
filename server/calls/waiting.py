"""Calls that wait for a message: a limit of time for the first one, and of their number (idle timeout, load shedding).

An open call takes some 20 KiB even if nothing of its message arrives. When too many wait, some end for others: of the
addresses that have most of them, those that have waited longest. So an address that opens calls and sends nothing loses
its own, and a call whose message arrives soon is not affected.
"""

import asyncio
import logging
import time
from collections import Counter
from typing import Any, TypeAlias

from grpc import aio

from server.addresses import caller_of
from server.calls.interruption import interrupt, reason, running_task
from server.errors import DeadlineError, InvalidArgumentError, OverloadedError, ServingError, UnavailableError

Context: TypeAlias = "aio.ServicerContext[Any, Any]"
# Of whom, and until when, a time of time.monotonic(). A plain tuple, because each call makes one.
_Wait: TypeAlias = tuple[str, float]
_LOGGER = logging.getLogger(__name__)
# A cancellation arrives at most this much later than the end of a call's messages.
_CANCEL_SECONDS = 0.1
_RETRY_SECONDS = 1.0
_FOREVER = float("inf")
# Looks at all calls that wait per time limit: a call may wait longer by this part of it.
_LOOKS = 8
# So many parts of the limit of their number are ended together: counting all of them takes milliseconds.
_PARTS = 16


class WaitingCalls:
    """Reads the messages of the calls of one port, on its event loop."""

    def __init__(self, first_seconds: float, max_calls: int) -> None:
        """Wait `first_seconds` for the message of a unary call, and in `max_calls` at a time."""
        self._seconds = first_seconds
        self._max = max_calls
        # The one that has waited longest first.
        self._waits: dict[asyncio.Task[Any], _Wait] = {}
        self._looking = False

    async def read_only(self, context: Context, peer: str, method: str) -> Any:  # noqa: ANN401 (of the handler's type)
        """Read the only message of a call.

        Raises:
            InvalidArgumentError: there is none, or a part of one.
            DeadlineError: it has not arrived in time.
            OverloadedError: too many calls wait.
            UnavailableError: the server stops.
        """
        if not self._looking:
            self._look_later()
        message = await self._read(context, (peer, time.monotonic() + self._seconds))
        if message is aio.EOF:
            # A caller that has cancelled sends nothing more either: its call ends here.
            await asyncio.sleep(_CANCEL_SECONDS)
            raise InvalidArgumentError("request", f"expected the message of {method}, got none, or a part of one")
        return message

    async def read_next(self, context: Context, peer: str) -> Any:  # noqa: ANN401 (as above)
        """Read the next message of a stream, which may take any time; None at its end.

        Raises:
            OverloadedError: too many calls wait.
        """
        message = await self._read(context, (peer, _FOREVER))
        return None if message is aio.EOF else message

    def stop(self) -> None:
        """End the unary calls that wait, because the server stops; a caller may send to another one."""
        error = UnavailableError("The server is stopping: try another one.")
        for task in [each for each, (_, until) in self._waits.items() if until < _FOREVER]:
            self._end(task, error)

    async def _read(self, context: Context, wait: _Wait) -> Any:  # noqa: ANN401 (as above)
        task = running_task()
        self._waits[task] = wait
        if len(self._waits) > self._max:
            self._make_room()
        try:
            return await context.read()
        except asyncio.CancelledError as cancelled:
            raise reason(task, cancelled) from None
        finally:
            self._waits.pop(task, None)

    def _make_room(self) -> None:
        """End the oldest calls of the addresses that have more than a share, which is as large as it can be."""
        counts = Counter(caller_of(peer) for peer, _ in self._waits.values())
        room = self._max - self._max // _PARTS
        share = self._max
        while share > 1 and sum(min(count, share) for count in counts.values()) > room:
            share -= max(share // _PARTS, 1)
        address, most = counts.most_common(1)[0]
        _LOGGER.warning("%d calls wait for a message, %d of them of %s: ended some", len(self._waits), most, address)
        message = f"More than {self._max} calls wait for a message: send it sooner, or keep fewer calls open."
        error = OverloadedError(message, _RETRY_SECONDS)
        for task, (peer, _) in list(self._waits.items()):
            if len(self._waits) <= room:
                return
            if share == 1 or counts[caller_of(peer)] > share:
                counts[caller_of(peer)] -= 1
                self._end(task, error)

    def _look(self) -> None:
        """End the calls whose time is up, and look again as long as any wait."""
        now = time.monotonic()
        error = DeadlineError(f"The message did not arrive within {self._seconds:g} s.")
        for task in [each for each, (_, until) in self._waits.items() if until <= now]:
            self._end(task, error)
        self._looking = False
        if self._waits:
            self._look_later()

    def _look_later(self) -> None:
        self._looking = True
        asyncio.get_running_loop().call_later(self._seconds / _LOOKS, self._look)

    def _end(self, task: "asyncio.Task[Any]", error: ServingError) -> None:
        del self._waits[task]
        interrupt(task, error)
