"""Layout of a model repository: <repository>/<name>/<version>/model.json and the files that it lists."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from autoencoder.v1.model_pb2 import File, Model
from google.protobuf import json_format

from bundle.errors import BundleError

MODEL_FILE = "model.json"
REPORT_FILE = "report.json"
GOLDEN_FILE = "golden.npz"
LATENTS_FILE = "latents.npz"
SIGNING_FILE = "model.sig"

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]*")
VERSION_PATTERN = re.compile(r"[1-9][0-9]*")
MAX_MODEL_FILE_BYTES = 4 * 1024 * 1024
"""Of model.json: far above any real description, far below what is expensive to parse."""


def model_names(repository: Path) -> list[str]:
    """Names of the folders that may hold versions, in alphabetical order; without those that cannot be looked at."""
    return sorted(
        name for name in _entries(repository) if NAME_PATTERN.fullmatch(name) and _is_folder(repository / name)
    )


def versions(repository: Path, name: str) -> list[int]:
    """Versions of a model, ascending. A folder without model.json is not a version: it is still being written."""
    folder = repository / name
    found = (entry for entry in _entries(folder) if VERSION_PATTERN.fullmatch(entry))
    return sorted(int(entry) for entry in found if _is_file(folder / entry / MODEL_FILE))


def version_folder(repository: Path, name: str, version: int) -> Path:
    """Folder of one version."""
    return repository / name / str(version)


def encode_model(model: Model) -> bytes:
    """Make model.json: protobuf JSON with proto field names, keys sorted; equal messages give equal bytes."""
    fields: dict[str, Any] = json_format.MessageToDict(model, preserving_proto_field_name=True)
    return (json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_model(folder: Path) -> Model:
    """Read and check model.json of a version's folder.

    Raises:
        BundleError: it is missing, too large, not a message `Model`, or contradicts itself.
    """
    path = folder / MODEL_FILE
    data = read_file(path, MAX_MODEL_FILE_BYTES)
    try:
        model = json_format.Parse(data, Model())
    # ValueError: text that is no Unicode. RecursionError: brackets nested too deep.
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: expected the message Model as JSON: {error}") from error
    _check(model, path)
    return model


def read_files(folder: Path, model: Model) -> dict[str, bytes]:
    """Read every listed file of a version once and compare its size and SHA-256.

    Raises:
        BundleError: a file is missing, unreadable or not the one that model.json describes.
    """
    return {file.path: read_listed(folder, file) for file in model.files}


def read_listed(folder: Path, file: File) -> bytes:
    """Read a file that model.json lists and compare its size and SHA-256.

    Raises:
        BundleError: it is missing, unreadable or not the one that model.json describes.
    """
    data = read_file(folder / file.path, file.size_bytes)
    got = describe_file(file.path, data)
    if got != file:
        raise BundleError(
            f"{folder / file.path}: expected {file.size_bytes} bytes with SHA-256 {file.sha256}, "
            f"got {got.size_bytes} with {got.sha256}: copy or export the version again"
        )
    return data


def describe_file(path: str, data: bytes) -> File:
    """Size and SHA-256 of a file's bytes, as model.json lists them."""
    return File(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def describe_files(contents: Mapping[str, bytes]) -> list[File]:
    """The list for `Model.files`, in alphabetical order."""
    return [describe_file(path, contents[path]) for path in sorted(contents)]


def read_file(path: Path, limit_bytes: int) -> bytes:
    """Read a file of a repository; its author is not trusted.

    Raises:
        BundleError: it cannot be read, is larger, or is not a regular file: reading a pipe or device may never end.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit_bytes:
                raise BundleError(f"{path}: expected at most {limit_bytes} bytes, got {size}")
            return file.read(size)
    except (OSError, ValueError) as error:
        # ValueError: a name with a zero byte.
        raise BundleError(f"{path}: expected a readable file: {getattr(error, 'strerror', error)}") from error


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it.

    Raises:
        BundleError: it is not a regular file: reading a pipe or device may never end.
        OSError: it cannot be opened.
        ValueError: no file can have this name.
    """
    file = open(path, "rb", opener=_open)  # noqa: SIM115 (the caller closes it)
    # The type is that of the open file: another file may have its name by now.
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise BundleError(f"{path}: expected a readable file, got a pipe or device")
    return file


def stays_inside(name: str) -> bool:
    """Whether it is the plain name of a file below a version's folder."""
    path = PurePosixPath(name)
    plain = "\\" not in name and "\0" not in name
    return bool(path.parts) and plain and not path.is_absolute() and ".." not in path.parts and str(path) == name


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 (names, without a path object for each)
    except OSError:
        return []


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 (before Python 3.14 Path.is_dir raises where it may not look)


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 (likewise)


def _open(path: str, flags: int) -> int:
    # Opening a pipe without a writer would block.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check(model: Model, path: Path) -> None:
    listed = {file.path for file in model.files}
    problems = [
        *([] if NAME_PATTERN.fullmatch(model.name) else [f"name {model.name!r} does not match {NAME_PATTERN.pattern}"]),
        *([] if VERSION_PATTERN.fullmatch(model.version) else [f"version {model.version!r} is not a number from 1"]),
        *([] if len(listed) == len(model.files) else ["a file is listed twice"]),
        *(["a file has a negative size"] if any(file.size_bytes < 0 for file in model.files) else []),
        *([] if model.signatures else ["no signature"]),
        *(f"file {name!r} leads out of the version" for name in sorted(listed) if not stays_inside(name)),
        *(
            f"file {name!r} of signature {s.name!r} is not listed"
            for s in model.signatures
            if (name := s.file) not in listed
        ),
        *([] if GOLDEN_FILE in listed else [f"{GOLDEN_FILE} is not listed"]),
    ]
    if problems:
        raise BundleError(f"{path}: {'; '.join(problems)}")
