"""A limit of streams that need no token, in all and for each connection (load shedding)."""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc import aio


class StreamLimit:
    """Counts the open streams of one service, on its event loop."""

    def __init__(self, most: int, most_of_connection: int, refusal: str) -> None:
        """Allow `most` streams, and `most_of_connection` of one connection; others fail with the sentence `refusal`."""
        self._most = most
        self._most_of_connection = most_of_connection
        self._refusal = refusal
        self._open: Counter[str] = Counter()

    @asynccontextmanager
    async def counted(self, context: "aio.ServicerContext[Any, Any]") -> AsyncGenerator[None, None]:
        """Count the stream of a context while it is open, or abort it with RESOURCE_EXHAUSTED."""
        peer = context.peer()
        # The connection from the native transport serves all callers.
        most = self._most if peer.startswith("unix") else self._most_of_connection
        if self._open.total() >= self._most or self._open[peer] >= most:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, self._refusal)
        self._open[peer] += 1
        try:
            yield
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]
