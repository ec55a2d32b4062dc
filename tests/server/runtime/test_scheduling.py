"""Threads that do not take the core of the thread that wakes them."""

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pygrpc_native import NativeGrpcFront

from server.runtime.scheduling import DeferredWakeUps
from server.transport.native import IO_THREADS

NAME = "test-wake-ups"


@contextmanager
def named_thread() -> Generator[int]:
    """A thread that the kernel knows under `NAME`."""
    named, ended = threading.Event(), threading.Event()

    def wait() -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(NAME)
        named.set()
        ended.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    named.wait()
    assert thread.native_id is not None
    try:
        yield thread.native_id
    finally:
        ended.set()
        thread.join()


def test_only_named_threads_and_only_meanwhile() -> None:
    with named_thread() as thread:
        deferred = DeferredWakeUps(NAME)
        assert len(deferred) == 1
        assert os.sched_getscheduler(thread) == os.SCHED_OTHER
        with deferred:
            assert os.sched_getscheduler(thread) == os.SCHED_BATCH
            assert os.sched_getscheduler(0) == os.SCHED_OTHER
        assert os.sched_getscheduler(thread) == os.SCHED_OTHER


def test_another_policy_stays() -> None:
    with named_thread() as thread:
        os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
        deferred = DeferredWakeUps(NAME)
        assert len(deferred) == 0
        with deferred:
            pass
        assert os.sched_getscheduler(thread) == os.SCHED_BATCH


def test_a_thread_that_has_ended_keeps_no_other_as_it_was() -> None:
    with named_thread() as thread:
        deferred = DeferredWakeUps(NAME)
        # The kernel gives no such number.
        deferred._threads.insert(0, 2**30)
        with deferred:
            assert os.sched_getscheduler(thread) == os.SCHED_BATCH
        assert os.sched_getscheduler(thread) == os.SCHED_OTHER


def test_a_system_without_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "SCHED_BATCH")
    with named_thread():
        deferred = DeferredWakeUps(NAME)
        with deferred:
            pass
    assert len(deferred) == 0


def test_threads_of_the_native_transport() -> None:
    front = NativeGrpcFront("127.0.0.1:0", [], io_threads=2)
    front.start()
    try:
        until = time.monotonic() + 20
        # Each names itself when it begins to run.
        while len(DeferredWakeUps(IO_THREADS)) < 2:
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        front.close()
