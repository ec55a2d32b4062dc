"""Interruption: ends what a task waits for with an error, as asyncio.timeout does with TimeoutError (cancel scope)."""

import asyncio
from typing import Any

from server.errors import ServingError


def interrupt(task: "asyncio.Task[Any]", error: ServingError) -> None:
    """End the wait of a task of the running loop, which must raise the `reason` of its cancellation."""
    task.cancel(error)


def reason(task: "asyncio.Task[Any]", cancelled: asyncio.CancelledError) -> BaseException:
    """The error that a task was interrupted with; its cancellation, if that comes from elsewhere, too."""
    error = cancelled.args[0] if cancelled.args else None
    return error if isinstance(error, ServingError) and not task.uncancel() else cancelled


def running_task() -> "asyncio.Task[Any]":
    """The task that calls this."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 (called by coroutines alone)
    return task
