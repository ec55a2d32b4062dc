"""Subprocesses of a reproduction: run in parallel, stopped cleanly by a signal, with their cost measured."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock

from training.errors import StoppedError, TrainingError
from training.reproduction.records import Cost

# Of ru_maxrss: kilobytes on Linux.
_MAXRSS_UNIT = 1024


class Processes:
    """Those under way. Each is in a group of its own, so that a Ctrl-C reaches it once, through here.

    Twice would end it before it has saved.
    """

    def __init__(self) -> None:
        # The thread that a signal interrupts may be in a handler already.
        self.lock = RLock()
        self.running: set[subprocess.Popen[bytes]] = set()
        self.stopping = False

    @contextmanager
    def stopped_by(self, *signals: signal.Signals) -> Generator[None]:
        """While it lasts, these signals are handed on, and nothing new begins after one."""
        before = {number: signal.signal(number, self.stop) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self, number: int, _frame: object = None) -> None:
        """Hands a signal on to all that run; nothing begins any more."""
        with self.lock:
            self.stopping = True
            for process in self.running:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)

    def spend(self, words: Sequence[str], log: Path, *, resumed: bool) -> Cost:
        """Runs `python -m training` with these words, adding its output to `log`; what that took.

        Raises:
            TrainingError: it failed, or all shall stop.
        """
        started = time.monotonic()
        process = self._start([sys.executable, "-m", "training", *words], log)
        _, status, usage = os.wait4(process.pid, 0)
        with self.lock:
            self.running.discard(process)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - started
        if process.returncode:
            last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
            raise TrainingError(f"ended with {process.returncode}: {''.join(last)}")
        return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _MAXRSS_UNIT, resumed)

    def _start(self, command: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
        with self.lock, log.open("ab") as output:
            if self.stopping:
                raise StoppedError("not begun: asked to stop")
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, process_group=0)  # noqa: S603 (our own program)
            self.running.add(process)
            return process
