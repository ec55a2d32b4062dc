"""Atomic publication: writes a version into a model repository whole or not at all, and never over another."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

from autoencoder.v1.model_pb2 import Model

from bundle.files import sync_folder, write_synced
from bundle.layout import MODEL_FILE, NAME_PATTERN, encode_model
from export.errors import ExportError, InputError
from export.publication.signing import signer

_STAGING = ".export-"
# Writing takes seconds.
_STALE_SECONDS = 3600


@dataclass(frozen=True)
class Place:
    """Where a version goes, and the key that signs it. Without a version it is the next free one."""

    repository: Path
    name: str | None = None
    version: int | None = None
    sign_key: Path | None = None

    def named(self, name: str) -> "Place":
        """The same with a name, unless it has one."""
        return replace(self, name=self.name or name)

    @property
    def parent(self) -> Path:
        """Of the versions."""
        return self.repository / (self.name or "")

    def name_model(self, model: Model, version: str) -> Model:
        """A description with the name and version that it has here."""
        named = Model(name=self.name, version=version)
        named.MergeFrom(model)
        return named

    def check(self) -> None:
        """Refuse early what `publish` would refuse after all the work is done.

        Raises:
            InputError: the name or version is invalid or exists already, or there is no such key.
        """
        if not NAME_PATTERN.fullmatch(self.name or ""):
            raise InputError(
                f"expected a model name that matches {NAME_PATTERN.pattern}, got {self.name!r}: give --name"
            )
        if self.version is not None and self.version < 1:
            raise InputError(f"expected a version from 1, got {self.version}")
        try:
            self._check_folders()
        except OSError as error:
            raise InputError(f"{self.parent}: expected a readable repository: {error.strerror}") from error
        self.signer()

    def _check_folders(self) -> None:
        if self.version is not None and (self.parent / str(self.version)).exists():
            raise self.taken(self.version)
        existing = next(each for each in (self.parent.absolute(), *self.parent.absolute().parents) if each.exists())
        if not existing.is_dir():
            raise InputError(f"{existing} is a file, not a directory: choose another --repository or --name")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise InputError(f"{existing}: expected a writable directory: choose another --repository")

    def signer(self) -> Callable[[Path], None] | None:
        """Function that signs the version's folder; None without a key."""
        return None if self.sign_key is None else signer(self.sign_key)

    def taken(self, version: int) -> InputError:
        """Error for a version that exists."""
        where = f"version {version} of {self.name} exists in {self.repository}"
        return InputError(f"{where} and is never overwritten: leave --version out")


def publish(place: Place, contents: Mapping[str, bytes], describe: Callable[[str], Model]) -> Path:
    """Write files and, last, the description for the version that is taken; sign it where a key is given.

    Raises:
        InputError: the version exists, or the key is unusable.
        ExportError: the disk is full or the repository cannot be written; it is as it was.
    """
    place.check()
    sign = place.signer()
    absent = [each for each in (place.parent, place.repository) if not each.exists()]
    # A hidden name is not a version, so a server that watches sees nothing before the rename.
    staging = place.parent / f"{_STAGING}{token_hex(8)}"
    try:
        staging.mkdir(parents=True)
        _remove_stale(place.parent)
        for file, data in contents.items():
            write_synced(staging / file, data)
        return _claim(staging, place, describe, sign)
    except OSError as error:
        raise ExportError(f"cannot write to the repository {place.repository}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _remove_if_empty(absent)


def _claim(staging: Path, place: Place, describe: Callable[[str], Model], sign: Callable[[Path], None] | None) -> Path:
    while True:
        number = place.version or _next(place.parent)
        write_synced(staging / MODEL_FILE, encode_model(describe(str(number))))
        if sign is not None:
            sign(staging)
        sync_folder(staging)
        folder = place.parent / str(number)
        try:
            staging.rename(folder)
        except OSError as error:
            # Another exporter was faster.
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            if place.version is not None:
                raise place.taken(number) from error
        else:
            sync_folder(folder.parent)
            return folder


def _next(parent: Path) -> int:
    """One more than any number there, whether or not it is a whole version."""
    return 1 + max((int(path.name) for path in parent.iterdir() if path.name.isdecimal()), default=0)


def _remove_stale(parent: Path) -> None:
    """Remove what killed exporters left behind."""
    for folder in parent.glob(f"{_STAGING}*"):
        with suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _remove_if_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
