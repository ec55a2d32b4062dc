"""Ordered parallel map over any number of inputs, with bounded memory (backpressure); threads and asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar, cast

from hourglass_client.errors import invalid

Input = TypeVar("Input")
Answer = TypeVar("Answer")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Bar(Protocol):
    """A progress bar."""

    def update(self, n: float = 1) -> object:
        """Advance by `n`."""
        ...


def ordered_map(
    call: Callable[[Input], Answer],
    inputs: Iterable[Input],
    *,
    in_flight: int = 16,
    progress: bool = False,
    total: int | None = None,
) -> Iterator[Answer]:
    """Answers to any number of inputs, in their order, `in_flight` calls at a time.

    `client.map(lambda batch: client.encode(batch, model="vae"), batches)`: each call has its own deadline and
    retries. An input is taken only when there is room for its call, so memory stays bounded, and by a thread of its
    own, so that no answer waits for a slow input. The first failure ends it. `progress` shows a bar (tqdm), `total`
    is its length.

    Raises:
        InvalidArgumentError: `in_flight` is less than one.
    """
    _check(in_flight)
    return _ordered(call, iter(inputs), in_flight, progress_bar(progress=progress, total=total))


def _ordered(
    call: Callable[[Input], Answer], inputs: Iterator[Input], in_flight: int, shown: AbstractContextManager[Bar]
) -> Iterator[Answer]:
    with ThreadPoolExecutor(in_flight, "hourglass") as pool, shown as bar:
        feeder = _Feeder(partial(pool.submit, call), inputs, in_flight)
        feeder.start()
        try:
            while (future := feeder.next()) is not None:
                answer = future.result()
                feeder.make_room()
                yield answer
                bar.update()
        finally:
            feeder.stop()


class _Feeder(Generic[Input, Answer]):
    """Takes inputs on its own thread, so that no ready answer waits for a slow input."""

    def __init__(self, submit: Callable[[Input], Future[Answer]], inputs: Iterator[Input], in_flight: int) -> None:
        self._submit = submit
        self._inputs = inputs
        self._room = threading.Semaphore(in_flight)
        self._begun: SimpleQueue[Future[Answer] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._stopped = False
        # A daemon: an input that never arrives must not keep the program from exiting.
        self._thread = threading.Thread(target=self._run, name="hourglass-inputs", daemon=True)

    def start(self) -> None:
        """Start taking inputs."""
        self._thread.start()

    def next(self) -> Future[Answer] | None:
        """The next call; None after the last. A failure of the inputs is returned as a failed call."""
        return self._begun.get()

    def make_room(self) -> None:
        """Allow one more input to be taken."""
        self._room.release()

    def stop(self) -> None:
        """Take no more inputs, and cancel calls that have not begun."""
        with self._lock:
            self._stopped = True
        self.make_room()
        while not self._begun.empty():
            future = self._begun.get()
            if future is not None:
                future.cancel()

    def _run(self) -> None:
        while self._take():
            pass

    def _take(self) -> bool:
        """Submit the next call; False after the last."""
        self._room.acquire()
        if self._stopped:
            return False
        try:
            each = next(self._inputs)
            with self._lock:
                if not self._stopped:
                    self._begun.put(self._submit(each))
        except StopIteration:
            self._begun.put(None)
            return False
        except BaseException as failure:  # noqa: BLE001 (the caller's, raised where its answer would be)
            failed: Future[Answer] = Future()
            failed.set_exception(failure)
            self._begun.put(failed)
            return False
        return True


def _check(in_flight: int) -> None:
    if in_flight < 1:
        raise invalid("in_flight", f"expected at least 1 call at a time, got {in_flight}")


async def async_ordered_map(
    call: Callable[[Input], Awaitable[Answer]],
    inputs: Iterable[Input] | AsyncIterable[Input],
    *,
    in_flight: int = 64,
    progress: bool = False,
    total: int | None = None,
) -> AsyncIterator[Answer]:
    """Answers to any number of inputs, in their order, `in_flight` calls at a time; see `Client.map`.

    Slow inputs must come from an asynchronous iterator: any other blocks the event loop.

    Raises:
        InvalidArgumentError: `in_flight` is less than one; raised with the first answer.
    """
    _check(in_flight)
    room = asyncio.Semaphore(in_flight)
    begun: asyncio.Queue[asyncio.Future[Answer] | None] = asyncio.Queue()
    with progress_bar(progress=progress, total=total) as bar:
        feeder = asyncio.create_task(_feed(call, _async(inputs), room, begun))
        try:
            while (future := await begun.get()) is not None:
                answer = await future
                room.release()
                yield answer
                bar.update()
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
            left = [future for future in _drained(begun) if future is not None]
            for future in left:
                future.cancel()
            await asyncio.gather(*left, return_exceptions=True)


async def _feed(
    call: Callable[[Input], Awaitable[Answer]],
    inputs: AsyncIterator[Input],
    room: asyncio.Semaphore,
    begun: asyncio.Queue[asyncio.Future[Answer] | None],
) -> None:
    """Start a call for each input when there is room; put None after the last."""
    while True:
        await room.acquire()
        try:
            each = await anext(inputs)
            begun.put_nowait(asyncio.ensure_future(call(each)))
            # Let calls start, and end if they can, before the next input is taken.
            await asyncio.sleep(0)
        except StopAsyncIteration:
            begun.put_nowait(None)
            return
        except BaseException as failure:  # noqa: BLE001 (the caller's, raised where its answer would be)
            failed: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            failed.set_exception(failure)
            begun.put_nowait(failed)
            return


def _drained(begun: asyncio.Queue[Item]) -> Iterator[Item]:
    while not begun.empty():
        yield begun.get_nowait()


async def _async(inputs: Iterable[Input] | AsyncIterable[Input]) -> AsyncIterator[Input]:
    if isinstance(inputs, AsyncIterable):
        async for each in inputs:
            yield each
    else:
        for each in inputs:
            yield each


class _NoBar:
    def update(self, n: float = 1) -> None:
        """Show nothing."""


def progress_bar(*, progress: bool, total: int | None, unit: str = "call") -> AbstractContextManager[Bar]:
    """A bar on stderr, or none.

    Raises:
        ImportError: tqdm is missing.
    """
    if not progress:
        return nullcontext(_NoBar())
    try:
        from tqdm import tqdm  # noqa: PLC0415 (an optional extra)
    except ImportError as missing:
        raise ImportError("progress=True needs tqdm: pip install './client[progress]' in a checkout") from missing
    return cast("AbstractContextManager[Bar]", tqdm(total=total, unit=unit))


async def async_apart(work: Callable[[], Result]) -> Result:
    """Work of seconds, such as decoding a large file: on another thread, so that the event loop goes on."""
    return await asyncio.to_thread(work)


def apart(work: Callable[[], Result]) -> Result:
    """The same for blocking callers, who wait anyway."""
    return work()
