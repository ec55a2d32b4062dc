"""Durable file writes (fsync), and the identity of a file: what changes when it is replaced or written."""

import os
from pathlib import Path
from typing import NamedTuple


class FileIdentity(NamedTuple):
    """Differs between a file and the one that replaces it."""

    inode: int
    size_bytes: int
    modified_ns: int


def identity(path: Path) -> FileIdentity | None:
    """What changes when a file is replaced or written; None where it cannot be found."""
    try:
        status = path.stat()
    except OSError:
        return None
    return FileIdentity(status.st_ino, status.st_size, status.st_mtime_ns)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it.

    Raises:
        OSError: the disk is full or the folder unwritable.
    """
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the disk has a folder's entries, so that a rename in it survives a loss of power.

    Raises:
        OSError: there is no such folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
