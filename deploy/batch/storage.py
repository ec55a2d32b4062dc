"""Files in folders or buckets: any URL that fsspec knows; whole files only, each written atomically."""

import os
import sys
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from bundle import layout
from bundle.errors import BundleError
from bundle.files import write_synced
from deploy.batch.errors import InputError

_READ_AT_ONCE = 16


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

    def within(self, other: "Store") -> bool:
        """Whether it is another folder or lies below it."""
        inner, outer = (
            os.path.realpath(each.root) if each.local else each.fs.unstrip_protocol(each.root) for each in (self, other)
        )
        return f"{inner}/".startswith(f"{outer.rstrip('/')}/")

    @contextmanager
    def expects(self, name: str, what: str, remedy: str = "") -> Generator[None]:
        """Turn whatever goes wrong with a file into a sentence; each file system has exceptions of its own.

        Raises:
            InputError: says what was expected, and why it did not come.
        """
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            text = ": ".join(filter(None, (f"expected {what}", _why(error), remedy)))
            raise InputError(text, self._place(name)) from error

    def find(self) -> dict[str, int]:
        """Sizes in bytes of all files below it, by name, in alphabetical order; empty where there is no such folder.

        A size that is not known is 0. In a name that is not UTF-8 its other bytes are escaped: no file has that name.

        Raises:
            InputError: it cannot be listed.
        """
        with self.expects("", "a folder that can be listed"):
            self.fs.invalidate_cache()
            try:
                found: dict[str, dict[str, Any]] = self.fs.find(self.root, detail=True)
            except FileNotFoundError:
                return {}
        sizes = {self.name(path): int(each.get("size") or 0) for path, each in found.items()}
        return {name.encode(errors="backslashreplace").decode(): sizes[name] for name in sorted(sizes)}

    def read(self, name: str) -> bytes | None:
        """A file; None where there is none.

        Raises:
            InputError: it cannot be read.
        """
        if self.local:
            return self.read_limited(name, sys.maxsize)
        with self.expects(name, "a readable file"):
            try:
                data: bytes = self.fs.cat_file(self.path(name))
            except FileNotFoundError:
                return None
        return data

    def read_limited(self, name: str, limit_bytes: int) -> bytes | None:
        """A file whose author is not trusted; None where there is none.

        Raises:
            InputError: it is larger than the limit, no more than that is read; it is not a regular file; or it cannot
                be read.
        """
        if not self.local:
            with self.expects(name, "a readable file"):
                return self._download(name, limit_bytes)
        try:
            return layout.read_file(Path(self.path(name)), limit_bytes)
        except BundleError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise InputError(f"expected {str(error).partition(': expected ')[2]}", self._place(name)) from error

    def read_many(self, sizes: Mapping[str, int], limit_bytes: int) -> dict[str, bytes | str]:
        """Files as they were listed, by name; instead of one that cannot be read, a sentence."""
        if self.local:
            return {name: self._try(name, limit_bytes) for name in sizes}
        # A web server says no sizes, and an empty file has no range.
        unknown = [name for name, size in sizes.items() if not size]
        known = [name for name, size in sizes.items() if size]
        with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
            found = dict(zip(unknown, pool.map(self._try, unknown, repeat(limit_bytes)), strict=True))
        paths = [self.path(name) for name in known]
        # Ranges, because `cat` takes names such as a[1].png for patterns. Buckets are read at the same time.
        data: list[Any] = self.fs.cat_ranges(paths, 0, limit_bytes + 1, on_error="return") if paths else []
        for name, got in zip(known, data, strict=True):
            if not isinstance(got, bytes):
                found[name] = f"expected a readable file: {_why(got)}"
            else:
                found[name] = got if len(got) <= limit_bytes else _too_large(limit_bytes)
        return found

    @contextmanager
    def open(self, name: str, what: str, remedy: str = "") -> Generator[BinaryIO]:
        """Open a file to read pieces of it, and what is made of it.

        Raises:
            InputError: it is not a regular file, cannot be read, or its bytes are not what they should be.
        """
        with self.expects(name, what, remedy):
            path = self.path(name)
            with layout.open_regular(Path(path)) if self.local else self.fs.open(path, "rb") as stream:
                yield stream

    def _place(self, name: str) -> str:
        return f"{self.url}: {name}" if name else self.url

    def _try(self, name: str, limit_bytes: int) -> bytes | str:
        try:
            data = self.read_limited(name, limit_bytes)
        except InputError as error:
            return error.text
        return "expected a readable file: No such file or directory" if data is None else data

    def _download(self, name: str, limit_bytes: int) -> bytes | None:
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
                raise InputError(f"{type(cause).__name__}: {cause}", self._place(name)) from error
            return None
        if not left:
            raise InputError(_too_large(limit_bytes), self._place(name))
        return b"".join(parts)

    def exists(self, name: str) -> bool:
        """Whether there is such a file now, whatever was listed before."""
        with self.expects(name, "to find out whether it exists"):
            self.fs.invalidate_cache()
            return bool(self.fs.exists(self.path(name)))

    def write(self, name: str, data: bytes) -> None:
        """Write a file, of which others see nothing or all: by rename on a disk, in one upload to a bucket.

        Raises:
            InputError: it cannot be written.
        """
        with self.expects(name, "a file that can be written", "free or permit its place, or name another output"):
            if self.local:
                self._replace(name, data)
            else:
                self.fs.pipe_file(self.path(name), data)

    def _replace(self, name: str, data: bytes) -> None:
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        # Two workers may write the same part, one of them given up for dead.
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        write_synced(unfinished, data)
        unfinished.replace(target)

    def remove(self, name: str) -> None:
        """Remove a folder, if there is one."""
        with self.expects(name, "a folder that can be removed"):
            self.fs.invalidate_cache()
            if self.fs.exists(self.path(name)):
                self.fs.rm(self.path(name), recursive=True)


def _why(error: BaseException) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def _too_large(limit_bytes: int) -> str:
    return f"expected at most {limit_bytes} bytes, got more"
