"""One stream of the grpcio transport: takes requests in while there is room, writes answers as they come."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

import grpc
from grpc import aio

from server.call import FOREVER, Call
from server.endpoint import Endpoint
from server.errors import Status, UnavailableError
from server.streams import Item, StreamMethod

Context: TypeAlias = "aio.ServicerContext[bytes, bytes]"

# Requests taken in and not answered yet, answers not written yet included: a caller who does not read stops being
# read from, and nobody else notices.
_MAX_ITEMS = 256


class StreamPump:
    """A stream is a flow of calls, each counted, answered and failed on its own."""

    def __init__(
        self, method: StreamMethod, endpoint: Endpoint, context: Context, schedule_drain: Callable[[], None]
    ) -> None:
        self._method = method
        self._endpoint = endpoint
        self._context = context
        self._schedule_drain = schedule_drain
        self._metadata: Any = context.invocation_metadata() or ()
        left: Any = context.time_remaining()  # None without a deadline, whatever its type says
        self._deadline = FOREVER if left is None else time.monotonic() + left
        self._calls: dict[Item, Call] = {}
        self._answers: deque[tuple[Item, bytes]] = deque()
        self._items = 0
        self._bytes = 0
        self._lock = threading.Lock()
        self._read_all = False
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._answered = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Serve the stream until the caller has sent everything and got everything."""
        reader = asyncio.create_task(self._read())
        try:
            await self._write()
        finally:
            reader.cancel()
            self._cancel_calls()
        if self._stopping and not self._read_all:
            status = UnavailableError("The server is stopping: open a stream to another one.").status()
            self._context.set_code(status.code)
            self._context.set_details(status.message)

    def stop(self) -> None:
        """Take nothing more in; what is not answered by now fails, and the stream ends."""
        self._stopping = True
        for call in list(self._calls.values()):
            call.stop()
        self._answered.set()

    def send(self, token: Item, payload: bytes) -> None:
        """Take an answer, from any thread."""
        self._push(token, token.answer(payload))

    def fail(self, token: Item, status: Status) -> None:
        """Take a failure, from any thread."""
        self._push(token, token.fail(status))

    def _push(self, item: Item, message: bytes) -> None:
        # While it waits to be written an answer takes the place of its request.
        self._weigh(len(message) - item.size_bytes)
        self._answers.append((item, message))
        if threading.get_ident() == self._thread:
            self._answered.set()
        else:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._answered.set)

    def _weigh(self, size_bytes: int) -> None:
        with self._lock:
            self._bytes += size_bytes

    async def _read(self) -> None:
        while not self._stopping:
            await self._wait_for_room()
            payload: Any = await self._context.read()
            if payload is aio.EOF:
                self._read_all = True
                self._answered.set()
                return
            self._take(payload)

    async def _wait_for_room(self) -> None:
        while self._items >= _MAX_ITEMS or self._bytes >= self._endpoint.max_message_bytes:
            self._room.clear()
            await self._room.wait()

    def _take(self, payload: bytes) -> None:
        item = self._method.read(payload)
        self._items += 1
        self._weigh(item.size_bytes)
        left = None if self._deadline == FOREVER else self._deadline - time.monotonic()
        call = self._endpoint.open(self._method.name, left, self._metadata, self, item)
        # Before the answer, which takes it out again.
        self._calls[item] = call
        # Each time: the server may have begun to stop, or the token may hold no more.
        refusal = self._endpoint.refusal(self._method.path, self._metadata)
        if refusal is not None:
            call.fail(refusal)
            return
        self._endpoint.accept_parsed(call, item.serve, item.size_bytes)
        self._schedule_drain()

    async def _write(self) -> None:
        while True:
            while self._answers:
                item, message = self._answers.popleft()
                del self._calls[item]
                await self._context.write(message)
                self._items -= 1
                self._weigh(-len(message))
                self._room.set()
            if self._items == 0 and (self._read_all or self._stopping):
                return
            self._answered.clear()
            if not self._answers:
                await self._answered.wait()

    def _cancel_calls(self) -> None:
        late = time.monotonic() >= self._deadline
        for call in self._calls.values():
            call.cancel(grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED)
