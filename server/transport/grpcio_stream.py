"""One bidirectional stream on grpc.aio, with backpressure: reads requests while there is room, writes answers."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias

import grpc
from grpc import aio

from server.batching.gather import GatherPolicy
from server.calls.call import FOREVER, Call
from server.calls.streaming import StreamItem, StreamMethod
from server.calls.waiting import WaitingCalls
from server.endpoint import Endpoint
from server.errors import OverloadedError, Status, UnavailableError
from server.transport.event_loop import Drain, LoopReplies
from server.transport.unsent import UnsentAnswers

Context: TypeAlias = "aio.ServicerContext[bytes, bytes]"
_UNREAD_SECONDS = GatherPolicy().unread_seconds


class StreamHandler:
    """Serves one stream as a series of calls, each counted, answered and failed on its own.

    At most `max_items` of them are open, including those with an answer that is not written yet: the server stops
    reading from a client that does not read, without effect on other clients.
    """

    def __init__(
        self,
        method: StreamMethod,
        endpoint: Endpoint,
        context: Context,
        drain: Drain,
        max_items: int,
        unsent: UnsentAnswers,
        waiting: WaitingCalls,
    ) -> None:
        self._unsent = unsent
        self._waiting = waiting
        self._max_items = max_items
        self._method = method
        self._endpoint = endpoint
        self._context = context
        self._drain = drain
        self._metadata: Any = context.invocation_metadata() or ()
        self._peer = context.peer()
        left: Any = context.time_remaining()  # None without a deadline, despite its type
        self._deadline = FOREVER if left is None else time.monotonic() + left
        self._calls: dict[StreamItem, Call] = {}
        self._replies: LoopReplies[StreamItem, bytes] = LoopReplies(self._keep)
        self._answers: deque[tuple[StreamItem, bytes, int]] = deque()
        self._bytes = 0
        self._read_all = False
        self._refusal: Status | None = None
        self._stopping = False
        self._ended = False
        self._held: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._answered = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Serve the stream until the client has sent all requests and received all answers."""
        reader = asyncio.create_task(self._read())
        try:
            await self._write()
        finally:
            reader.cancel()
            self._cancel_calls()
            self._ended = True
            for _, _, held in self._answers:
                self._unsent.remove(self._peer, held)
        if self._stopping and not self._read_all:
            self._refusal = UnavailableError("The server is stopping: open a stream to another one.").status()
        if self._refusal is not None:
            self._context.set_code(self._refusal.code)
            self._context.set_details(self._refusal.message)

    def stop(self) -> None:
        """Read nothing more, fail the open calls, and end the stream."""
        self._stopping = True
        for call in list(self._calls.values()):
            call.stop()
        self._answered.set()

    def send_all(self, answers: Sequence[tuple[StreamItem, bytes]]) -> None:
        """Queue answers, from any thread."""
        self._replies.put([(token, token.answer(payload)) for token, payload in answers])

    def fail(self, token: StreamItem, status: Status) -> None:
        """Queue a failure, from any thread."""
        self._replies.put([(token, token.fail(status))])

    def _keep(self, item: StreamItem, message: bytes) -> None:
        if self._ended:
            return
        try:
            held = self._unsent.add(self._peer, len(message))
        except OverloadedError as error:
            message, held = item.fail(error.status()), 0
        # Until it is written, an answer counts in place of its request.
        self._bytes += len(message) - item.size_bytes
        self._answers.append((item, message, held))
        self._answered.set()

    async def _read(self) -> None:
        while not self._stopping:
            while len(self._calls) >= self._max_items or self._bytes >= self._endpoint.max_message_bytes:
                self._room.clear()
                await self._room.wait()
            try:
                payload = await self._waiting.read_next(self._context, self._peer)
            except OverloadedError as error:
                self._refusal = error.status()
                self._answered.set()
                return
            if payload is None:
                self._read_all = True
                self._answered.set()
                return
            self._take(payload)

    def _take(self, payload: bytes) -> None:
        item = self._method.read(payload)
        self._bytes += item.size_bytes
        left = None if self._deadline == FOREVER else self._deadline - time.monotonic()
        call = self._endpoint.open(self._method.name, left, self._metadata, self._peer, self, item)
        # Added before it is answered, because answering removes it.
        self._calls[item] = call
        # Checked for each request: the server may have begun to stop, or the token may have been revoked.
        refusal = self._endpoint.refusal(self._method.path, self._metadata)
        if refusal is not None:
            call.fail(refusal)
            return
        self._endpoint.accept_parsed(call, item.serve, item.size_bytes, item.bytes_to_parse)
        self._run_soon()

    def _run_soon(self) -> None:
        """Run quick graphs as soon as no answer waits to be written.

        The answer to this request would not be sent before those, and requests that arrive in the meantime can share
        its run.
        """
        if not self._answers:
            self._drain.schedule()
        elif self._held is None:
            self._held = self._loop.call_later(_UNREAD_SECONDS, self._run_held)

    def _run_held(self) -> None:
        if self._held is not None:
            self._held.cancel()
            self._held = None
            self._drain.schedule()

    async def _write(self) -> None:
        while True:
            while self._answers:
                item, message, held = self._answers[0]
                await self._context.write(message)
                self._answers.popleft()
                self._unsent.remove(self._peer, held)
                del self._calls[item]
                self._bytes -= len(message)
                self._room.set()
            if self._refusal is not None or (not self._calls and (self._read_all or self._stopping)):
                return
            self._run_held()
            self._answered.clear()
            await self._answered.wait()

    def _cancel_calls(self) -> None:
        late = time.monotonic() >= self._deadline
        for call in self._calls.values():
            call.cancel(grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED)
