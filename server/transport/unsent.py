"""Bytes of answers that are not sent yet (backpressure): what callers who do not read can make the server hold."""

import logging
from collections import defaultdict
from collections.abc import Callable

from server.errors import OverloadedError

_LOGGER = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0


class UnsentAnswers:
    """Counts unsent bytes of each connection and of all, on the transport's thread.

    One answer is always admitted to a server that holds none, however large it is. When all connections together hold
    too much, `end` ends the one that holds most, so that others get their answers; it returns whether it could.
    """

    def __init__(self, connection_bytes: int, total_bytes: int, end: Callable[[str], bool] = lambda _: False) -> None:
        self._connection_bytes = connection_bytes
        self._end = end
        self._ended: set[str] = set()
        self._total_bytes = total_bytes
        self._held: defaultdict[str, int] = defaultdict(int)
        self._total = 0

    def add(self, peer: str, size_bytes: int) -> int:
        """Count an answer to a connection, and return what `remove` must be called with once it is sent.

        Raises:
            OverloadedError: the connection, or all of them, would have too much unsent.
        """
        held = self._held.get(peer, 0)
        if held and held + size_bytes > self._connection_bytes:
            raise _refusal(f"{held} bytes of answers to this connection", self._connection_bytes)
        if self._total and self._total + size_bytes > self._total_bytes:
            self._make_room(peer)
        self._held[peer] += size_bytes
        self._total += size_bytes
        return size_bytes

    def check(self, peer: str) -> None:
        """Refuse a call of a connection that has not read its answers, before it costs anything.

        Raises:
            OverloadedError: the connection has as much unsent as it may.
        """
        if self._held and self._held.get(peer, 0) >= self._connection_bytes:
            raise _refusal(f"{self._held[peer]} bytes of answers to this connection", self._connection_bytes)

    def remove(self, peer: str, size_bytes: int) -> None:
        """Count an answer that `add` has counted as sent, or as given up."""
        if not size_bytes:
            return
        self._total -= size_bytes
        self._held[peer] -= size_bytes
        if not self._held[peer]:
            del self._held[peer]
            self._ended.discard(peer)

    def _make_room(self, peer: str) -> None:
        """End the connection that holds most, unless it is the caller's own; its bytes are given back soon."""
        left = self._held.keys() - self._ended
        largest = max(left, key=self._held.__getitem__, default=peer)
        if largest == peer or not self._end(largest):
            raise _refusal(f"{self._total} bytes of answers", self._total_bytes)
        _LOGGER.warning("ended the connection of %s, which had %d bytes unread", largest, self._held[largest])
        self._ended.add(largest)


def _refusal(held: str, limit: int) -> OverloadedError:
    return OverloadedError(
        f"{held} are not sent yet, of at most {limit}: read the answers, or make fewer calls at a time", _RETRY_SECONDS
    )
