"""Callers under observation: what their calls came to between two moments."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

STOP_SECONDS = 60


@dataclass(frozen=True)
class Window:
    """Calls of one kind of caller during one fault."""

    answered: int
    lost: Counter[str]
    p50_ms: float
    p99_ms: float
    longest_ms: float

    def __str__(self) -> str:
        lost = ", ".join(f"{count} {code}" for code, count in self.lost.items()) or "none"
        times = f"p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms, longest {self.longest_ms:.0f} ms"
        return f"{self.answered} answered, lost {lost}; {times}"


class Callers:
    """A load program and its results."""

    def __init__(self, process: subprocess.Popen[bytes], pids: Callable[[], list[int]], results: Path) -> None:
        self._process = process
        self._pids = pids
        self._results = results
        self._offset = 0
        self._ticks: list[tuple[float, list[float], dict[str, int]]] = []

    def wait_until_answered(self, seconds: float = 30) -> None:
        """Wait for the first answer."""
        end = time.monotonic() + seconds
        while not self.answered():
            assert time.monotonic() < end, "no call was answered"
            time.sleep(0.1)

    def stop(self) -> None:
        """Let calls in flight end."""
        for pid in self._pids():
            # Not the nsenter whose command line is the same.
            if pid != self._process.pid:
                os.kill(pid, signal.SIGTERM)
        assert self._process.wait(STOP_SECONDS) == 0

    def window(self, start: float = 0, end: float = float("inf")) -> Window:
        """What ended between two times of the clock."""
        took: list[float] = []
        lost: Counter[str] = Counter()
        for at, milliseconds, codes in self._lines():
            if start < at <= end:
                took += milliseconds
                lost.update(codes)
        p50, p99, longest = np.percentile(took, (50, 99, 100)) if took else (np.nan,) * 3
        return Window(len(took), lost, float(p50), float(p99), float(longest))

    def answered(self) -> int:
        """Calls answered so far."""
        return sum(len(milliseconds) for _, milliseconds, _ in self._lines())

    def _lines(self) -> Sequence[tuple[float, list[float], dict[str, int]]]:
        if self._results.exists():
            with self._results.open("rb") as file:
                file.seek(self._offset)
                whole = file.read().rpartition(b"\n")[0]
            self._ticks += [json.loads(line) for line in whole.splitlines()]
            self._offset += len(whole) + 1 if whole else 0
        return self._ticks
