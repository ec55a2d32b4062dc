"""The IDX files of MNIST and Fashion-MNIST, plain or gzip, checked before use."""

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from training.errors import DataError

IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
_GZIP_MAGIC = b"\x1f\x8b"

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

# The checksums that Zalando publishes; they are of the compressed files.
_FASHION_MNIST_MD5 = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}


@dataclass(frozen=True)
class Checksums:
    """What is known of files by name: SHA-256 of the decompressed bytes, or MD5 of the gzip file."""

    sha256: Mapping[str, str] = field(default_factory=dict)
    gzip_md5: Mapping[str, str] = field(default_factory=dict)


CHECKSUMS = {
    "mnist": Checksums(sha256=_MNIST_SHA256),
    "fashion-mnist": Checksums(gzip_md5=_FASHION_MNIST_MD5),
}


def read_pair(folder: Path, prefix: str, checksums: Checksums) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, H, W, 1) and labels int64 (N,) of the split `train` or `t10k`.

    Raises:
        DataError: a file is missing, truncated, of another kind, or differs from its checksum (where one is known).
    """
    images = read_images(folder, f"{prefix}-images-idx3-ubyte", checksums)
    labels = _read_labels(folder, f"{prefix}-labels-idx1-ubyte", checksums)
    if len(images) != len(labels):
        raise DataError(f"{folder} holds {len(images)} {prefix} images and {len(labels)} labels: fetch the files again")
    return images, labels


def read_images(folder: Path, name: str, checksums: Checksums) -> np.ndarray:
    """uint8 (N, H, W, 1)."""
    data, path = _content(folder, name, checksums)
    return _array(data, path, IMAGES_MAGIC, dimensions=3)[..., np.newaxis]


def _read_labels(folder: Path, name: str, checksums: Checksums) -> np.ndarray:
    """int64 (N,)."""
    data, path = _content(folder, name, checksums)
    return _array(data, path, LABELS_MAGIC, dimensions=1).astype(np.int64)


def _content(folder: Path, name: str, checksums: Checksums) -> tuple[bytes, Path]:
    paths = [folder / name, folder / f"{name}.gz"]
    path = next((each for each in paths if each.is_file()), None)
    if path is None:
        raise DataError(f"no {name} or {name}.gz in {folder}: give the folder of the IDX files with --data-dir")
    return check(path, name, checksums), path


def check(path: Path, name: str, checksums: Checksums) -> bytes:
    """The decompressed content of the file at `path`, which should be the IDX file `name`.

    Raises:
        DataError: a checksum is known and differs, or the file is not a complete gzip file.
    """
    data = path.read_bytes()
    if data.startswith(_GZIP_MAGIC):
        _compare(path, "MD5", checksums.gzip_md5.get(name), hashlib.md5(data, usedforsecurity=False).hexdigest())
        data = _decompressed(data, path)
    _compare(path, "SHA-256", checksums.sha256.get(name), hashlib.sha256(data).hexdigest())
    return data


def _compare(path: Path, kind: str, expected: str | None, got: str) -> None:
    if expected and got != expected:
        raise DataError(f"{path} is damaged: expected {kind} {expected}, got {got}; fetch it again")


def _decompressed(data: bytes, path: Path) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}): fetch it again") from None


def _array(data: bytes, path: Path, magic: int, dimensions: int) -> np.ndarray:
    header = 4 * (1 + dimensions)
    if len(data) < header:
        raise DataError(f"{path} is truncated: expected a header of {header} bytes, got {len(data)} bytes")
    numbers = np.frombuffer(data, ">u4", count=1 + dimensions).tolist()
    if numbers[0] != magic:
        raise DataError(f"{path} is another kind of file: expected IDX magic {magic}, got {numbers[0]}")
    shape = tuple(numbers[1:])
    expected = header + int(np.prod(shape))
    if len(data) != expected:
        raise DataError(f"{path} has the wrong size: expected {expected} bytes for shape {shape}, got {len(data)}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
