"""File change detection by stat, without reading the files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]


class FileWatcher:
    """Files that may be replaced while the server runs."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._seen: Stamp | None = None

    def changed(self) -> bool:
        """Whether they differ from the previous call; true on the first call."""
        stamp = tuple(stamp_of(path) for path in self._paths)
        changed = stamp != self._seen
        self._seen = stamp
        return changed

    def invalidate(self) -> None:
        """Report a change on the next call, whether there is one or not."""
        self._seen = None


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    """Inode, size in bytes and mtime in ns, which change when a file is replaced or written; None if it is absent."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
