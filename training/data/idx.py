"""IDX files, plain or gzip: those of MNIST and Fashion-MNIST, checked before use, and any other pair."""

import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from training.errors import DataError

IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
_GZIP_MAGIC = b"\x1f\x8b"
# Magic and three sizes.
_LARGEST_HEADER = 16
_CHUNK_BYTES = 1 << 20

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
    """What is known of files by name: SHA-256 of the decompressed bytes, or MD5 of the gzip file; whose they are."""

    title: str = ""
    torchvision: str = ""
    """The folder that torchvision makes for them."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    gzip_md5: Mapping[str, str] = field(default_factory=dict)


CHECKSUMS = {
    "mnist": Checksums("MNIST", "MNIST", sha256=_MNIST_SHA256),
    "fashion-mnist": Checksums("Fashion-MNIST", "FashionMNIST", gzip_md5=_FASHION_MNIST_MD5),
}


@dataclass(frozen=True)
class Pair:
    """The files of a split: images, and labels where there are any."""

    images: Path
    labels: Path | None


def read_pair(folder: Path, prefix: str, checksums: Checksums) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, H, W, 1) and labels int64 (N,) of the split `train` or `t10k`.

    Raises:
        DataError: a file is missing, truncated, of another kind, or differs from its checksum (where one is known).
    """
    images = read_images(folder, f"{prefix}-images-idx3-ubyte", checksums)
    name = f"{prefix}-labels-idx1-ubyte"
    labels = _labels(check(locate(folder, name, checksums), name, checksums), folder / name)
    _same_count(images, labels, folder)
    return images, labels


def read_images(folder: Path, name: str, checksums: Checksums) -> np.ndarray:
    """uint8 (N, H, W, 1)."""
    path = locate(folder, name, checksums)
    return _images(check(path, name, checksums), path)


def locate(folder: Path, name: str, checksums: Checksums) -> Path:
    """The file of a published name: with a dot, a folder of its own, or below the folder that torchvision makes.

    Raises:
        DataError: there is none.
    """
    places = [folder, folder / "raw", folder / checksums.torchvision / "raw"]
    names = [each + suffix for each in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    paths = (path for place in places for each in names for path in (place / each, place / each / each))
    path = next((each for each in paths if is_file(each)), None)
    if path is None:
        raise DataError(f"no {name} or {name}.gz in {folder}: give the folder of the IDX files with --data-dir")
    return path


def is_file(path: Path) -> bool:
    """Whether there is a regular file that can be looked at."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_files(pair: Pair) -> tuple[np.ndarray, np.ndarray | None]:
    """Images uint8 (N, H, W, 1) and, where there are any, labels int64 (N,) of any IDX files.

    Raises:
        DataError: a file is truncated, of another kind, or the counts differ.
    """
    images = _images(_content(pair.images), pair.images)
    if pair.labels is None:
        return images, None
    labels = _labels(_content(pair.labels), pair.labels)
    _same_count(images, labels, pair.images)
    return images, labels


def _same_count(images: np.ndarray, labels: np.ndarray, where: Path) -> None:
    if len(images) != len(labels):
        raise DataError(f"{where}: expected as many labels as images, got {len(images)} images, {len(labels)} labels")


def check(path: Path, name: str, checksums: Checksums) -> bytes:
    """The decompressed content of the file at `path`, which should be the IDX file `name`.

    Raises:
        DataError: a checksum is known and differs, or the file is not a complete gzip file.
    """
    content = _content(path)
    if expected := checksums.gzip_md5.get(name):
        packed = _bytes(path)
        if packed.startswith(_GZIP_MAGIC):
            got = hashlib.md5(packed, usedforsecurity=False).hexdigest()
            _compare(content, path, checksums, f"MD5 {expected}", f"MD5 {got}")
    if expected := checksums.sha256.get(name):
        _compare(content, path, checksums, f"SHA-256 {expected}", f"SHA-256 {hashlib.sha256(content).hexdigest()}")
    return content


def _compare(content: bytes, path: Path, checksums: Checksums, expected: str, got: str) -> None:
    if got == expected:
        return
    try:
        (_images if "images" in path.name else _labels)(content, path)
    except DataError as error:
        raise DataError(f"{error}; expected {expected}, got {got}: it is damaged, fetch it again") from None
    whose = f"{checksums.title or 'the data set'}'s (expected {expected}, got {got})"
    raise DataError(f"{path} is an IDX file, but not {whose}: read it with --data idx, or fetch it again")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _content(path: Path) -> bytes:
    """The decompressed bytes, no more of them than the file's own header calls for, and one."""
    data = _bytes(path)
    if not data.startswith(_GZIP_MAGIC):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            chunks = [stream.read(_LARGEST_HEADER)]
            left = max(0, _expected_bytes(chunks[0]) - len(chunks[0])) + 1
            # The header may lie: memory is asked for as content comes.
            while left and (chunk := stream.read(min(left, _CHUNK_BYTES))):
                chunks.append(chunk)
                left -= len(chunk)
            return b"".join(chunks)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}): fetch it again") from None


def _expected_bytes(header: bytes) -> int:
    """The size of an IDX file of bytes by its header: the fourth byte is the number of dimensions."""
    dimensions = min(int.from_bytes(header[3:4]), _LARGEST_HEADER // 4 - 1)
    numbers = np.frombuffer(header[: 4 * min(1 + dimensions, len(header) // 4)], ">u4").tolist()
    return 4 * len(numbers) + math.prod(numbers[1:])


def _images(data: bytes, path: Path) -> np.ndarray:
    """uint8 (N, H, W, 1)."""
    images = _array(data, path, IMAGES_MAGIC, dimensions=3)[..., np.newaxis]
    if not images.size:
        raise DataError(f"{path} holds no pixels: its shape is {images.shape[:3]}")
    return images


def _labels(data: bytes, path: Path) -> np.ndarray:
    """int64 (N,)."""
    return _array(data, path, LABELS_MAGIC, dimensions=1).astype(np.int64)


def _array(data: bytes, path: Path, magic: int, dimensions: int) -> np.ndarray:
    header = 4 * (1 + dimensions)
    if len(data) < header:
        raise DataError(f"{path} is truncated: expected a header of {header} bytes, got {len(data)} bytes")
    numbers = np.frombuffer(data, ">u4", count=1 + dimensions).tolist()
    if numbers[0] != magic:
        raise DataError(f"{path} is another kind of file: expected IDX magic {magic}, got {numbers[0]}")
    shape = tuple(numbers[1:])
    expected = header + math.prod(shape)
    if len(data) != expected:
        raise DataError(f"{path} has the wrong size: expected {expected} bytes for shape {shape}, got {len(data)}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
