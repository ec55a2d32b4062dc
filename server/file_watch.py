"""Noticing that files have changed without reading them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]


class WatchedFiles:
    """Files that may be replaced while the server runs."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._seen: Stamp | None = None

    def changed(self) -> bool:
        """Whether they differ from the last time that this was asked; at first they do."""
        stamp = tuple(stamp_of(path) for path in self._paths)
        changed = stamp != self._seen
        self._seen = stamp
        return changed

    def forget(self) -> None:
        """Take them as changed the next time."""
        self._seen = None


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced or written; nothing where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
