import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import idx_bytes, write_idx
from training.data import idx
from training.errors import DataError

IMAGES = "train-images-idx3-ubyte"


@pytest.mark.parametrize("compressed", [True, False])
def test_reads_plain_and_gzip(tmp_path: Path, compressed: bool) -> None:
    write_idx(tmp_path, 40, compressed=compressed)
    images, labels = idx.read_pair(tmp_path, "train", idx.Checksums())
    assert (images.shape, images.dtype, labels.shape, labels.dtype) == ((40, 28, 28, 1), np.uint8, (40,), np.int64)
    np.testing.assert_array_equal(images, np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1)))
    np.testing.assert_array_equal(labels, np.arange(40) % 10)


def test_missing_file_says_which_and_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"no {IMAGES} or {IMAGES}.gz in .*--data-dir"):
        idx.read_images(tmp_path, IMAGES, idx.Checksums())


def test_truncated_gzip_is_refused(tmp_path: Path) -> None:
    write_idx(tmp_path)
    path = tmp_path / f"{IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="not a whole gzip file"):
        idx.read_images(tmp_path, IMAGES, idx.Checksums())


@pytest.mark.parametrize("cut", [1, 31_360 - 3, 31_360 + 10])
def test_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    (tmp_path / IMAGES).write_bytes(idx_bytes(np.zeros((40, 28, 28)), 2051)[:-cut])
    with pytest.raises(DataError, match=r"expected.*got"):
        idx.read_images(tmp_path, IMAGES, idx.Checksums())


def test_longer_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / IMAGES).write_bytes(idx_bytes(np.zeros((2, 28, 28)), 2051) + b"x")
    with pytest.raises(DataError, match=r"expected 1584 bytes for shape .*, got 1585"):
        idx.read_images(tmp_path, IMAGES, idx.Checksums())


def test_labels_in_place_of_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / IMAGES).write_bytes(idx_bytes(np.zeros(40), 2049) + bytes(20))
    with pytest.raises(DataError, match="expected IDX magic 2051, got 2049"):
        idx.read_images(tmp_path, IMAGES, idx.Checksums())


def test_one_changed_bit_is_refused(tmp_path: Path) -> None:
    data = bytearray(idx_bytes(np.zeros((3, 28, 28)), 2051))
    known = idx.Checksums(sha256={IMAGES: hashlib.sha256(data).hexdigest()})
    (tmp_path / f"{IMAGES}.gz").write_bytes(gzip.compress(data))
    idx.read_images(tmp_path, IMAGES, known)
    data[500] ^= 1
    (tmp_path / f"{IMAGES}.gz").write_bytes(gzip.compress(data))
    with pytest.raises(DataError, match=r"is an IDX file, but not .*expected SHA-256 .*read it with --data idx"):
        idx.read_images(tmp_path, IMAGES, known)


def test_the_checksum_of_a_compressed_file_is_kept_to(tmp_path: Path) -> None:
    # Fashion-MNIST is published with those.
    content = gzip.compress(idx_bytes(np.zeros((3, 28, 28)), 2051))
    (tmp_path / f"{IMAGES}.gz").write_bytes(content)
    known = idx.Checksums(gzip_md5={IMAGES: hashlib.md5(content, usedforsecurity=False).hexdigest()})
    idx.read_images(tmp_path, IMAGES, known)
    (tmp_path / f"{IMAGES}.gz").write_bytes(gzip.compress(idx_bytes(np.ones((3, 28, 28)), 2051)))
    with pytest.raises(DataError, match=r"is an IDX file, but not .*expected MD5"):
        idx.read_images(tmp_path, IMAGES, known)


def test_unequal_counts_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path, compressed=False)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(39), 2049))
    with pytest.raises(DataError, match="got 40 images, 39 labels"):
        idx.read_pair(tmp_path, "train", idx.Checksums())


def test_a_damaged_file_with_a_known_checksum_is_damaged(tmp_path: Path) -> None:
    data = idx_bytes(np.zeros((3, 28, 28)), 2051)
    (tmp_path / IMAGES).write_bytes(data[:-5])
    with pytest.raises(DataError, match=r"wrong size: .*expected SHA-256 .*it is damaged, fetch it again"):
        idx.read_images(tmp_path, IMAGES, idx.Checksums(sha256={IMAGES: hashlib.sha256(data).hexdigest()}))


@pytest.mark.parametrize(
    "place",
    [
        "train-images.idx3-ubyte",
        "train-images.idx3-ubyte.gz",
        "train-images-idx3-ubyte/train-images-idx3-ubyte",
        "train-images.idx3-ubyte/train-images.idx3-ubyte",
        "MNIST/raw/train-images-idx3-ubyte",
        "raw/train-images-idx3-ubyte.gz",
    ],
)
def test_a_published_file_is_found_where_others_put_it(place: str, tmp_path: Path) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    data = idx_bytes(np.zeros((3, 28, 28)), 2051)
    path.write_bytes(gzip.compress(data) if place.endswith("gz") else data)
    known = idx.Checksums("MNIST", "MNIST", sha256={IMAGES: hashlib.sha256(data).hexdigest()})
    assert idx.read_images(tmp_path, IMAGES, known).shape == (3, 28, 28, 1)


def test_a_gzip_file_is_unpacked_no_further_than_its_header_calls_for(tmp_path: Path) -> None:
    (tmp_path / f"{IMAGES}.gz").write_bytes(gzip.compress(idx_bytes(np.zeros((3, 28, 28)), 2051) + bytes(1 << 22)))
    with pytest.raises(DataError, match=r"expected 2368 bytes for shape .*, got 2369"):
        idx.read_images(tmp_path, IMAGES, idx.Checksums())


def test_a_named_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / IMAGES)
    with pytest.raises(DataError, match=f"no {IMAGES}"):
        idx.read_images(tmp_path, IMAGES, idx.Checksums())
