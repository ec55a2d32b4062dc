"""Bytes of answers that are not sent yet (backpressure): what callers who do not read can make the server hold."""

from collections import defaultdict

from server.errors import OverloadedError

_RETRY_SECONDS = 1.0


class UnsentAnswers:
    """Counts unsent bytes of each connection and of all, on the transport's thread.

    One answer is always admitted to a server that holds none, however large it is.
    """

    def __init__(self, connection_bytes: int, total_bytes: int) -> None:
        self._connection_bytes = connection_bytes
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
            raise _refusal(f"{self._total} bytes of answers", self._total_bytes)
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


def _refusal(held: str, limit: int) -> OverloadedError:
    return OverloadedError(
        f"{held} are not sent yet, of at most {limit}: read the answers, or make fewer calls at a time", _RETRY_SECONDS
    )
