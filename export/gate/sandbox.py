"""Sandbox: a child process for code that may crash; if it does, a check has failed and this program goes on."""

import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.util import Finalize
from threading import Thread, current_thread, main_thread
from types import TracebackType
from typing import ParamSpec, Self, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")

# A fork of a process with torch's threads may hang.
_SPAWN = get_context("spawn")
_END_SECONDS = 5


class CrashError(Exception):
    """The sandbox died of what it was asked to run."""


class Sandbox:
    """One process that runs functions, started at the first call; use as a context.

    It ends when this process ends, however that happens, and at once when the context ends by an error; its temporary
    files are removed then too. With `another_order` it iterates over sets in another order than this process does.
    """

    def __init__(self, *, another_order: bool = False) -> None:
        self._environment = _another_hash_seed if another_order else nullcontext
        self._worker: _Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._worker is not None:
            self._worker.end(at_once=error is not None)

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a module's function in the sandbox; its exceptions are raised here.

        Raises:
            CrashError: the process died.
        """
        return self.begin(function, *args, **kwargs)()

    def begin(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Callable[[], T]:
        """As `run`, without waiting: call what is returned for the answer, before anything else is run."""
        if self._worker is None or not self._worker.alive:
            with self._environment(), _interrupts_later():
                self._worker = _Worker()
        worker = self._worker
        worker.ask((function, args, kwargs))

        def answer() -> T:
            value, error = worker.answer(function.__name__)
            if error is not None:
                raise error
            return cast("T", value)

        return answer


class _Worker:
    """The child process, seen from the parent."""

    def __init__(self) -> None:
        self._scratch = tempfile.mkdtemp(prefix="hourglass-export-")
        self._line, theirs = _SPAWN.Pipe()
        watched, self._lifeline = _SPAWN.Pipe(duplex=False)
        # Not a pool of concurrent.futures: its locks outlive a process that is ended.
        self._process = SpawnProcess(target=_serve, args=(theirs, watched, self._scratch))
        self._process.start()
        # So that the end of the child shows here as the end of the pipe.
        theirs.close()
        watched.close()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def ask(self, call: object) -> None:
        # If it has died, `answer` raises.
        with suppress(OSError):
            self._line.send(call)

    def answer(self, name: str) -> tuple[object, BaseException | None]:
        try:
            return self._line.recv()
        except (EOFError, OSError) as error:
            self.end(at_once=True)
            raise CrashError(f"the process that ran {name} died") from error

    def end(self, *, at_once: bool) -> None:
        """End it: at once, or after its work."""
        if at_once:
            self._lifeline.close()
        self._line.close()
        self._process.join(_END_SECONDS if at_once else None)
        self._process.kill()
        self._process.join()
        self._lifeline.close()
        shutil.rmtree(self._scratch, ignore_errors=True)


def _serve(line: Connection, lifeline: Connection, scratch: str) -> None:
    """Run what is asked, in the child process."""
    # Ctrl-C goes to all processes of a terminal; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)
    tempfile.tempdir = scratch
    # Last of all: multiprocessing has its own folder in there, which it removes at -100.
    Finalize(None, shutil.rmtree, (scratch, True), exitpriority=-200)
    Thread(target=_await_end, args=(lifeline,), daemon=True).start()
    try:
        while (call := _next_call(line)) is not None:
            _answer(line, call)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _exit(*_: object) -> None:
    sys.exit()


def _next_call(line: Connection) -> bytes | None:
    try:
        return line.recv_bytes()
    except (EOFError, OSError):
        return None


def _answer(line: Connection, call: bytes) -> None:
    try:
        function, args, kwargs = pickle.loads(call)  # noqa: S301 (from the parent process)
        line.send((function(*args, **kwargs), None))
    except Exception as error:  # noqa: BLE001 (the parent decides)
        error.add_note(f"in the sandbox:\n{traceback.format_exc()}")
        # The parent may be gone.
        with suppress(OSError):
            line.send((None, error))


def _await_end(lifeline: Connection) -> None:
    """End when the other end is closed, which the kernel does when the parent is killed."""
    with suppress(EOFError, OSError):
        lifeline.recv()
    # An orderly exit, so that libraries remove what they hold; what they write to stderr then is of no use.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for _ in range(10 * _END_SECONDS):
        # Repeatedly: an exception raised in a callback is lost, and code deep in a library may never see it.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
    os._exit(1)


@contextmanager
def _interrupts_later() -> Generator[None]:
    """Ctrl-C waits for the end of this context; a process started in it never sees one.

    A process that gets nothing to do, or is interrupted before it begins, prints a traceback.
    """
    if current_thread() is not main_thread():
        yield
        return
    seen: list[int] = []

    def note(number: int, _: object) -> None:
        seen.append(number)

    before = signal.signal(signal.SIGINT, note)
    # For the new process, which inherits the mask; here other threads may still take the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, before)
        if seen:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _another_hash_seed() -> Generator[None]:
    """For a process started in this context: the seed of hashes cannot be changed in a running process."""
    name, random = "PYTHONHASHSEED", "random"
    before = os.environ.get(name)
    os.environ[name] = "1" if before in {None, random, "0"} else "0"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before
