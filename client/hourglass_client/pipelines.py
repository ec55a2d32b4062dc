"""Many calls at a time over inputs of any number: answers in the order of the inputs, memory bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar, cast

Input = TypeVar("Input")
Answer = TypeVar("Answer")


class Bar(Protocol):
    """A progress bar."""

    def update(self, n: float = 1) -> object:
        """Moves on."""
        ...


def in_order(
    call: Callable[[Input], Answer], inputs: Iterable[Input], *, in_flight: int, progress: bool, total: int | None
) -> Iterator[Answer]:
    """Answers of `call` to each input, at most `in_flight` of them asked for and not yet taken."""
    waiting: deque[Future[Answer]] = deque()
    with ThreadPoolExecutor(in_flight, "hourglass") as pool, _bar(progress=progress, total=total) as bar:
        try:
            for each in inputs:
                if len(waiting) == in_flight:
                    yield waiting.popleft().result()
                    bar.update()
                waiting.append(pool.submit(call, each))
            while waiting:
                yield waiting.popleft().result()
                bar.update()
        finally:
            for future in waiting:
                future.cancel()


async def in_order_async(
    call: Callable[[Input], Awaitable[Answer]],
    inputs: Iterable[Input] | AsyncIterable[Input],
    *,
    in_flight: int,
    progress: bool,
    total: int | None,
) -> AsyncIterator[Answer]:
    """The same for coroutines."""
    waiting: deque[asyncio.Future[Answer]] = deque()
    with _bar(progress=progress, total=total) as bar:
        try:
            async for each in _async(inputs):
                if len(waiting) == in_flight:
                    yield await waiting.popleft()
                    bar.update()
                waiting.append(asyncio.ensure_future(call(each)))
            while waiting:
                yield await waiting.popleft()
                bar.update()
        finally:
            for future in waiting:
                future.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


async def _async(inputs: Iterable[Input] | AsyncIterable[Input]) -> AsyncIterator[Input]:
    if isinstance(inputs, AsyncIterable):
        async for each in inputs:
            yield each
    else:
        for each in inputs:
            yield each


class _NoBar:
    def update(self, n: float = 1) -> None:
        """Shows nothing."""


def _bar(*, progress: bool, total: int | None) -> AbstractContextManager[Bar]:
    if not progress:
        return nullcontext(_NoBar())
    try:
        from tqdm import tqdm  # noqa: PLC0415 (an extra: most callers live without it)
    except ImportError as missing:
        raise ImportError("progress=True needs tqdm: pip install 'hourglass-client[progress]'") from missing
    return cast("AbstractContextManager[Bar]", tqdm(total=total, unit="call"))
