"""Model repository of a replica: a folder that nodes share, or a copy of what a URL of fsspec holds."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from bundle.layout import MODEL_FILE
from deploy.ray.settings import ClusterError

_KEPT = 3
"""Copies that stay on a node, the newest, for the way back; and those that are served."""
_ARCHIVE = ".zip"


def repository(url: str, cache: Path, revision: str) -> tuple[Path, int | None]:
    """The folder to serve. Bundles are verified by the server that loads them, as those of any other folder.

    Args:
        url: a folder, or a URL such as s3://bucket/models. A web server lists no folders: https://… names a .zip.
        cache: folder of this node for copies; one is made once for each revision.
        revision: name of the copy.

    Returns:
        The folder; a descriptor that keeps a copy from being deleted while this process has it open, None without one.

    Raises:
        ClusterError: there is nothing at the URL, or it cannot be read.
    """
    if "://" not in url:
        if not Path(url).is_dir():
            raise ClusterError(f"[models] url: {url} is not a directory on this node: share it, or use a URL")
        return Path(url), None
    target = cache / revision
    while (descriptor := _hold(target)) is None:
        _copy(url, cache, target)
    os.utime(descriptor)
    _prune(cache)
    return target, descriptor


def contents(url: str) -> str:
    """Name what is at a URL, by the model.json of its versions, which list the hashes of files; empty for a folder.

    Raises:
        ClusterError: there is nothing at the URL, or it cannot be read.
    """
    if "://" not in url:
        return ""
    with _reported(url):
        files, path = _open(url)
        described = sorted(file for file in files.find(path) if file.endswith(f"/{MODEL_FILE}"))
        read = [(file.removeprefix(path), hashlib.sha256(files.cat_file(file)).hexdigest()) for file in described]
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()[:16]


def _hold(copy: Path) -> int | None:
    """A descriptor with a shared lock on a copy; None if there is no copy."""
    try:
        descriptor = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    # Another replica may have deleted it before the lock was granted.
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), copy.stat()):
            return descriptor
    os.close(descriptor)
    return _hold(copy)


def _copy(url: str, cache: Path, target: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=cache))
    try:
        _fetch(url, part)
        _place(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fetch(url: str, folder: Path) -> None:
    with _reported(url):
        files, path = _open(url)
        files.get(f"{path}/", f"{folder}/", recursive=True)


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the folder in it, without a slash at its end."""
    files, path = url_to_fs(f"zip://::simplecache::{url}" if url.endswith(_ARCHIVE) else url)
    if not files.isdir(path):
        raise FileNotFoundError("expected a folder of <name>/<version>/model.json")
    return files, str(path).rstrip("/")


@contextmanager
def _reported(url: str) -> Generator[None, None, None]:
    try:
        yield
    # Each of fsspec's file systems raises its own kinds.
    except Exception as error:
        raise ClusterError(f"[models] url: {url} cannot be fetched: {str(error) or type(error).__name__}") from error


def _place(part: Path, target: Path) -> None:
    try:
        part.rename(target)
    except OSError:
        # Another replica of this node was faster.
        if not target.is_dir():
            raise


def _prune(cache: Path) -> None:
    copies = sorted((each for each in cache.iterdir() if each.name[:1] != "."), key=_last_use)
    for old in copies[:-_KEPT]:
        _delete_unless_held(old)


def _last_use(copy: Path) -> float:
    """When a copy was last asked for; longest ago if another replica has just deleted it."""
    try:
        return copy.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _delete_unless_held(copy: Path) -> None:
    # Another replica may delete it at the same time.
    with suppress(OSError):
        descriptor = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(copy, ignore_errors=True)
        finally:
            os.close(descriptor)
