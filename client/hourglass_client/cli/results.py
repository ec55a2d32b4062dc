"""Output of a command: a table for people or JSON for scripts, and files, written all or none."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from hourglass_client.cli.inputs import UsageError

_SHOWN_NUMBERS = 8


@dataclass(frozen=True)
class Result:
    """Facts about the whole, one row per item, the files written, and how the program ends."""

    facts: Mapping[str, object]
    rows: Sequence[Mapping[str, object]] = ()
    files: Sequence[Path] = ()
    exit_code: int = 0

    def as_json(self) -> str:
        """One object: the facts, `items` and `files`."""
        written = [str(path) for path in self.files]
        return json.dumps({**self.facts, "items": [dict(row) for row in self.rows], "files": written})

    def as_text(self) -> str:
        """A table, then the facts."""
        lines = _table(self.rows)
        lines += [f"{name}: {_cell(value)}" for name, value in self.facts.items()]
        if self.files:
            lines.append(f"written: {len(self.files)} files, from {self.files[0]}")
        return "\n".join(lines)


def check_new(paths: Sequence[Path]) -> None:
    """Refuse to overwrite, and what could not be written, before the server is asked.

    Raises:
        UsageError: a file already exists, or its folder cannot be written to.
    """
    try:
        for path in paths:
            if path.exists():
                raise UsageError(f"{path} already exists: choose another --out")
        for folder in {path.parent for path in paths}:
            _check_folder(folder)
    except OSError as error:
        raise UsageError(f"--out: {error.filename}: {error.strerror}") from error


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written to, or be created."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not there.is_dir():
        raise UsageError(f"--out: {there} is not a directory")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"--out: no permission to write to {there}")


class OutputFiles:
    """Files of a command: written as they come, beside their places, and put there together or not at all."""

    def __init__(self) -> None:
        self._made: dict[Path, Path] = {}
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._undo.close()

    def add(self, path: Path, content: bytes) -> None:
        """Write a file.

        Raises:
            UsageError: it exists already, or cannot be written.
        """
        if path in self._made:
            raise UsageError(f"--out: two of the files to write are called {path}: rename one of the images")
        check_new([path])
        self._made[path] = _written(path, content, self._undo)

    def add_all(self, paths: Iterable[Path], contents: Iterable[bytes]) -> None:
        """Write some files."""
        for path, content in zip(paths, contents, strict=True):
            self.add(path, content)

    def place(self) -> Sequence[Path]:
        """Put the files in their places, which they keep from then on.

        Raises:
            UsageError: meanwhile, one of them exists.
        """
        check_new(list(self._made))
        for path, temporary in self._made.items():
            try:
                temporary.replace(path)
            except OSError as error:
                raise _unwritable(path, error) from error
            self._undo.callback(path.unlink, missing_ok=True)
        self._undo.pop_all()
        return list(self._made)


def _written(path: Path, content: bytes, undo: ExitStack) -> Path:
    """A temporary file beside the path, in folders that are made for it; `undo` removes all of them."""
    try:
        for folder in reversed([path.parent, *path.parent.parents]):
            if not folder.exists():
                folder.mkdir()
                undo.callback(_remove_empty, folder)
        # Unlike files of `tempfile`, readable by whom the caller's umask allows.
        temporary = path.with_name(f".hourglass-{token_hex(8)}")
        undo.callback(temporary.unlink, missing_ok=True)
        with temporary.open("xb") as stream:
            stream.write(content)
    except OSError as error:
        raise _unwritable(path, error) from error
    return temporary


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"--out: cannot write {error.filename or path}: {error.strerror}; nothing was written")


def npy(array: NDArray[Any]) -> bytes:
    """Contents of a .npy file."""
    stream = BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    if not rows:
        return []
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[object]", value)
        shown = [_cell(item) for item in items[:_SHOWN_NUMBERS]]
        return " ".join(shown) + (" …" if len(items) > _SHOWN_NUMBERS else "")
    return str(value)
