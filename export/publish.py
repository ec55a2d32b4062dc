"""Writes a version into a model repository, whole or not at all, and never over another."""

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from secrets import token_hex

from autoencoder.v1.model_pb2 import Model

from bundle.layout import MODEL_FILE, NAME_PATTERN, encode_model, version_folder
from export.errors import ExportError, InputError


def check_place(repository: Path, name: str, version: int | None) -> None:
    """Refuse early what `publish` would refuse after all the work.

    Raises:
        InputError: a name or version that no repository can hold, or one that it holds already.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise InputError(f"wanted a model name that matches {NAME_PATTERN.pattern}, got {name!r}: give one with --name")
    if version is not None and version < 1:
        raise InputError(f"wanted a version from 1, got {version}")
    if version is not None and version_folder(repository, name, version).exists():
        raise _taken(repository, name, version)
    if repository.exists() and not repository.is_dir():
        raise InputError(f"wanted a folder as repository, {repository} is a file")


def publish(
    repository: Path, name: str, version: int | None, contents: Mapping[str, bytes], describe: Callable[[str], Model]
) -> Path:
    """Write files and, last, the description for the version taken; the next free version unless one is given.

    Raises:
        InputError: the version exists.
        ExportError: the disk is full or the repository cannot be written; it is as it was.
    """
    check_place(repository, name, version)
    parent = repository / name
    absent = [each for each in (parent, repository) if not each.exists()]
    # A hidden name is no version, so a server that watches sees nothing before the rename.
    staging = parent / f".export-{token_hex(8)}"
    try:
        staging.mkdir(parents=True)
        for file, data in contents.items():
            _write_synced(staging / file, data)
        return _claim(staging, repository, name, version, describe)
    except OSError as error:
        raise ExportError(f"cannot write to the repository {repository}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _remove_if_empty(absent)


def _claim(staging: Path, repository: Path, name: str, version: int | None, describe: Callable[[str], Model]) -> Path:
    while True:
        number = version or _next(repository / name)
        _write_synced(staging / MODEL_FILE, encode_model(describe(str(number))))
        _sync(staging)
        folder = version_folder(repository, name, number)
        try:
            staging.rename(folder)
        except OSError as error:
            # Another exporter was faster.
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            if version is not None:
                raise _taken(repository, name, number) from error
        else:
            _sync(folder.parent)
            return folder


def _next(parent: Path) -> int:
    """One more than any number there, whether or not it is a whole version."""
    return 1 + max((int(path.name) for path in parent.iterdir() if path.name.isdecimal()), default=0)


def _taken(repository: Path, name: str, version: int) -> InputError:
    return InputError(
        f"version {version} of {name} exists in {repository} and is never overwritten: leave --version out"
    )


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_if_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
