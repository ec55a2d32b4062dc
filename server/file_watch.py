"""File change detection by stat, without reading the files."""

from collections.abc import Sequence
from pathlib import Path

from bundle.files import FileIdentity, identity


class FileWatcher:
    """Files that may be replaced while the server runs."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._seen: tuple[FileIdentity | None, ...] | None = None

    def changed(self) -> bool:
        """Whether they differ from the previous call; true on the first call."""
        stamp = tuple(identity(path) for path in self._paths)
        changed = stamp != self._seen
        self._seen = stamp
        return changed

    def invalidate(self) -> None:
        """Report a change on the next call, whether there is one or not."""
        self._seen = None
