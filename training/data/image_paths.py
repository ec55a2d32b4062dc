"""Find image files below a folder: symbolic links are followed, hidden and special files are skipped and counted."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.errors import DataError

# What the Finder of macOS puts into archives beside the files themselves.
_RESOURCE_FORKS = "__MACOSX"
_SHOWN = 3
# Photographs in formats that are not read: HEIC, AVIF, JPEG XL, JPEG 2000, and what sensors saw.
_UNREAD = frozenset(
    f".{suffix}"
    for suffix in ("heic", "heif", "hif", "avif", "jxl", "jp2", "j2k", "dng", "cr2", "cr3", "nef", "arw", "orf", "raf")
)
_BROKEN = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass
class ImagePaths:
    """The paths of images, sorted, and what else lies there."""

    folder: Path
    suffixes: Container[str]
    paths: list[Path] = field(default_factory=list)
    hidden: int = 0
    broken: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)

    def notes(self) -> Iterator[str]:
        """A line for each kind of entry that was left out."""
        if self.hidden:
            yield f"{self.hidden} hidden file{'s' if self.hidden > 1 else ''} skipped"
        if self.broken:
            yield f"{_listed(self.broken, 'broken link')} skipped"
        if self.special:
            yield f"{_listed(self.special, 'entry', 'entries')} skipped: neither a file nor a directory"
        if self.repeated:
            yield f"{_listed(self.repeated, 'link')} skipped: to a directory that is read under another name"
        unread = {suffix: count for suffix, count in self.other.items() if suffix in _UNREAD}
        if unread:
            yield f"images skipped that cannot be read here, convert them to JPEG or PNG: {_counted(unread)}"
        if other := self.other - Counter(unread):
            yield f"files that are not images skipped: {_counted(other)}"


def find(folder: Path, suffixes: Container[str]) -> ImagePaths:
    """Look through a folder and everything below it, each directory once, by its own name rather than by a link's.

    Raises:
        DataError: not a directory, or an entry cannot be looked at.
    """
    status = look(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise DataError(f"{folder} is not a directory: --data folder needs one in --data-dir")
    found = ImagePaths(folder, suffixes)
    seen = set[tuple[int, int]]()
    # Links wait until all real directories have been seen.
    directories, links = [folder], list[Path]()
    while directories or links:
        directory = directories.pop() if directories else links.pop(0)
        identity = _identity(directory)
        if identity in seen:
            found.repeated.append(str(directory.relative_to(folder)))
            continue
        seen.add(identity)
        for path in _visible(directory, found):
            if _is_directory(path, found):
                (links if path.is_symlink() else directories).append(path)
    found.paths.sort()
    return found


def look(path: Path) -> os.stat_result:
    """The status of a path, links followed.

    Raises:
        DataError: there is nothing, or it cannot be looked at.
    """
    try:
        return path.stat()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _visible(directory: Path, found: ImagePaths) -> list[Path]:
    """Entries that are not hidden, sorted; the others are counted."""
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 (names alone)
    except OSError as error:
        raise _unreadable(directory, error) from None
    visible = []
    for name in names:
        if name.startswith(".") or name == _RESOURCE_FORKS:
            path = directory / name
            is_file = path.is_symlink() or not path.is_dir()
            found.hidden += 1 if is_file else sum(len(files) for _, _, files in os.walk(path))
        else:
            visible.append(directory / name)
    return visible


def _is_directory(path: Path, found: ImagePaths) -> bool:
    """Whether a path leads to a directory; whatever else it is goes where it belongs."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno not in _BROKEN:
            raise _unreadable(path, error) from None
        found.broken.append(str(path.relative_to(found.folder)))
        return False
    if stat.S_ISDIR(mode):
        return True
    suffix = path.suffix.lower()
    if not stat.S_ISREG(mode):
        # Opening a named pipe would wait for a writer.
        found.special.append(str(path.relative_to(found.folder)))
    elif suffix in found.suffixes:
        found.paths.append(path)
    else:
        found.other[suffix] += 1
    return False


def _identity(directory: Path) -> tuple[int, int]:
    status = look(directory)
    return status.st_dev, status.st_ino


def _unreadable(path: Path, error: OSError | ValueError) -> DataError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return DataError(f"{path} does not exist: check --data-dir")
    reason = error.strerror if isinstance(error, OSError) else error
    return DataError(f"{path} cannot be read ({reason}): change its permissions or remove it")


def _counted(suffixes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(suffixes.items()))


def _listed(names: Sequence[str], what: str, plural: str = "") -> str:
    """`2 broken links (a, b)`; the first names stand for many."""
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    return f"{len(names)} {what if len(names) == 1 else plural or what + 's'} ({shown})"
