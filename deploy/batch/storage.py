"""Files in folders or buckets: any URL that fsspec knows; whole files only, each written atomically."""

import os
from http import HTTPStatus
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from bundle.files import write_synced
from deploy.batch.errors import InputError


class Store:
    """A folder, local or behind a URL."""

    def __init__(self, url: str) -> None:
        """Open it.

        Raises:
            InputError: fsspec does not know the URL's protocol, or lacks the package for it.
        """
        try:
            self.fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise InputError(f"{url}: expected a folder or a URL that fsspec can open: {error}") from error
        self.url = url
        self.root = str(root).rstrip("/")

    @property
    def local(self) -> bool:
        """Whether it is on a disk of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """A file's path as fsspec takes it; the folder itself for an empty name."""
        return f"{self.root}/{name}" if name and self.root else name or self.root

    def name(self, path: str) -> str:
        """The name of a file: its path without the folder's."""
        return path.removeprefix(self.root).lstrip("/")

    def find(self) -> dict[str, int]:
        """Sizes in bytes of all files below it, by name, in alphabetical order; empty where there is no such folder."""
        self.fs.invalidate_cache()
        found: dict[str, dict[str, Any]] = self.fs.find(self.root, detail=True)
        return {self.name(path): int(each["size"] or 0) for path, each in sorted(found.items())}

    def read(self, name: str) -> bytes | None:
        """A file; None where there is none."""
        try:
            data: bytes = self.fs.cat_file(self.path(name))
        except FileNotFoundError:
            return None
        return data

    def read_limited(self, name: str, limit_bytes: int) -> bytes | None:
        """A file whose author is not trusted; None where there is none.

        Raises:
            InputError: it is larger than the limit, no more than that is read; or a web server fails or refuses it.
        """
        parts: list[bytes] = []
        left = limit_bytes + 1
        try:
            # Not a range by `cat_file`: a web server may answer it with the whole file.
            with self.fs.open(self.path(name), "rb") as stream:
                while left and (part := stream.read(left)):
                    parts.append(part)
                    left -= len(part)
        except FileNotFoundError as error:
            # fsspec says so of whatever a web server answers, and of no answer.
            cause = error.__cause__
            absent = cause is None or getattr(cause, "status", None) == HTTPStatus.NOT_FOUND
            if "http" in self.fs.protocol and not absent:
                raise InputError(f"{self.url}: {name}: {type(cause).__name__}: {cause}") from error
            return None
        if not left:
            raise InputError(f"{self.url}: {name}: expected at most {limit_bytes} bytes, got more")
        return b"".join(parts)

    def exists(self, name: str) -> bool:
        """Whether there is such a file now, whatever was listed before."""
        self.fs.invalidate_cache()
        return bool(self.fs.exists(self.path(name)))

    def write(self, name: str, data: bytes) -> None:
        """Write a file, of which others see nothing or all: by rename on a disk, in one upload to a bucket."""
        path = self.path(name)
        if not self.local:
            self.fs.pipe_file(path, data)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Two workers may write the same part, one of them given up for dead.
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        write_synced(unfinished, data)
        unfinished.replace(target)

    def remove(self, name: str) -> None:
        """Remove a folder, if there is one."""
        self.fs.invalidate_cache()
        if self.fs.exists(self.path(name)):
            self.fs.rm(self.path(name), recursive=True)
