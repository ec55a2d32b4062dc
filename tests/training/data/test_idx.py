import gzip
import hashlib
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
    with pytest.raises(DataError, match="damaged: expected SHA-256"):
        idx.read_images(tmp_path, IMAGES, known)


def test_the_checksum_of_a_compressed_file_is_kept_to(tmp_path: Path) -> None:
    # Fashion-MNIST is published with those.
    content = gzip.compress(idx_bytes(np.zeros((3, 28, 28)), 2051))
    (tmp_path / f"{IMAGES}.gz").write_bytes(content)
    known = idx.Checksums(gzip_md5={IMAGES: hashlib.md5(content, usedforsecurity=False).hexdigest()})
    idx.read_images(tmp_path, IMAGES, known)
    (tmp_path / f"{IMAGES}.gz").write_bytes(gzip.compress(idx_bytes(np.ones((3, 28, 28)), 2051)))
    with pytest.raises(DataError, match="damaged: expected MD5"):
        idx.read_images(tmp_path, IMAGES, known)


def test_unequal_counts_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path, compressed=False)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(39), 2049))
    with pytest.raises(DataError, match="40 train images and 39 labels"):
        idx.read_pair(tmp_path, "train", idx.Checksums())
