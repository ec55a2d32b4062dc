"""Handing calls and answers between threads and an event loop: one wake-up per batch in each direction."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Generic, TypeAlias, TypeVar

from server.batching.gather import GatherPolicy
from server.errors import Status

Pending: TypeAlias = "asyncio.Future[bytes | Status]"
"""A call that waits for its response or its failure."""
T = TypeVar("T")
R = TypeVar("R")


class LoopReplies(Generic[T, R]):
    """Passes results from any thread to the running event loop, which wakes up once for all results of a batch."""

    def __init__(self, deliver: Callable[[T, R], None]) -> None:
        """Bind to the running loop, on whose thread `deliver` is called with each token and its result."""
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._waiting: deque[tuple[T, R]] = deque()
        self._waking = False

    def put(self, results: Iterable[tuple[T, R]]) -> None:
        """Deliver results: at once on the loop's own thread, soon from any other, never once the loop has ended."""
        if threading.get_ident() == self._thread:
            for token, result in results:
                self._deliver(token, result)
            return
        self._waiting.extend(results)
        if not self._waking:
            self._waking = True
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver_all)

    def _deliver_all(self) -> None:
        self._waking = False
        while self._waiting:
            self._deliver(*self._waiting.popleft())


class Drain:
    """Runs accepted calls once the loop brings no more: calls arrive one at a time and leave together."""

    def __init__(self, run_ready: Callable[[], bool], policy: GatherPolicy) -> None:
        """Bind to the running loop; `run_ready` runs what waits and is true when there is more."""
        self._run_ready = run_ready
        self._policy = policy
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._arrivals = self._arrivals_before = 0
        self._turns = self._quiet_turns = 0

    def add_call(self) -> None:
        """Count a call that was accepted, and have it run soon."""
        self._arrivals += 1
        self.schedule()

    def schedule(self) -> None:
        """Run what waits soon."""
        self._quiet_turns = 0
        if not self._scheduled:
            self._scheduled = True
            self._turns = 0
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turns += 1
        self._quiet_turns += 1
        if not self._policy.leaves(self._turns, self._quiet_turns, max(self._arrivals, self._arrivals_before)):
            self._loop.call_soon(self._turn)
            return
        self._scheduled = False
        self._arrivals_before, self._arrivals = self._arrivals, 0
        if self._run_ready():
            self.schedule()
            # What is left has waited already.
            self._quiet_turns = self._policy.quiet_turns


def resolve(token: Pending, result: bytes | Status) -> None:
    """Set the result of a call, unless its caller has left."""
    if not token.done():
        token.set_result(result)
