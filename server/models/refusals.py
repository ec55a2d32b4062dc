"""Versions that did not load, and until when each is left alone."""

import re
import time
from collections.abc import Container
from pathlib import Path
from typing import TypeAlias

from server.runtime.session import DeviceError

Key: TypeAlias = tuple[str, int]
Fingerprint: TypeAlias = frozenset[tuple[str, int, int]]

_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 60.0
# onnxruntime tells by its words alone that memory or the device has run out.
_EXHAUSTED = re.compile(r"allocat|bad_alloc|out of memory|CUDA failure|CUDNN_STATUS", re.IGNORECASE)


class Refusals:
    """A bundle that is wrong is left alone until its files change, anything else for ever longer times."""

    def __init__(self) -> None:
        self._files: dict[Key, Fingerprint] = {}
        self._due: dict[Key, float] = {}
        self._delays: dict[Key, float] = {}

    def add(self, key: Key, fingerprint: Fingerprint, error: BaseException) -> None:
        """Note why a version did not load."""
        if is_transient(error):
            delay = self._delays.get(key, _FIRST_RETRY_SECONDS)
            self._due[key] = time.monotonic() + delay
            self._delays[key] = min(2 * delay, _LAST_RETRY_SECONDS)
        else:
            self.drop(key)
            self._files[key] = fingerprint

    def stands(self, key: Key, fingerprint: Fingerprint) -> bool:
        """Whether a version is not worth another try yet."""
        due = self._due.get(key)
        return self._files.get(key) == fingerprint if due is None else time.monotonic() < due

    def drop(self, key: Key) -> None:
        """Forget a version: it has loaded."""
        for record in (self._files, self._due, self._delays):
            record.pop(key, None)

    def keep(self, name: str, versions: Container[int]) -> None:
        """Forget the versions of a model that nobody wants."""
        for key in [*self._files, *self._due]:
            if key[0] == name and key[1] not in versions:
                self.drop(key)

    def clear(self) -> None:
        """Try everything again."""
        self.__init__()

    def seconds_to_next(self) -> float | None:
        """Time until a version is due, never short; None when none will be."""
        if not self._due:
            return None
        return max(min(self._due.values()) - time.monotonic(), _FIRST_RETRY_SECONDS)


def is_transient(error: BaseException) -> bool:
    """Whether the machine may be at fault: its device, its disk or its memory."""
    if isinstance(error, (DeviceError, MemoryError)) or _EXHAUSTED.search(str(error)):
        return True
    if isinstance(error, OSError):
        return not isinstance(error, FileNotFoundError)
    return error.__cause__ is not None and is_transient(error.__cause__)


def fingerprint_of(folder: Path) -> Fingerprint:
    """Names, sizes and times of a version's files; whatever the disk does, it tells a change from none."""
    found: set[tuple[str, int, int]] = set()
    try:
        for path in folder.rglob("*"):
            found.add((str(path.relative_to(folder)), *_stamp(path)))
    except OSError:
        found.add(("", -1, -1))
    return frozenset(found)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        # Gone meanwhile, or a link to nowhere.
        return -1, -1
    return status.st_size, status.st_mtime_ns
