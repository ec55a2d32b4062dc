import io
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from training.config import Data
from training.data import dataset, inspect
from training.errors import DataError


def noise(count: int = 30, size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size), dtype=np.uint8)


def stored(path: Path, **arrays: np.ndarray) -> Data:
    np.savez(path, **arrays)
    return Data(kind="npz", folder=str(path))


def test_npz_of_bytes_or_floats(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    as_bytes = dataset.load(stored(tmp_path / "bytes.npz", images=images, labels=np.arange(30) % 3))
    as_floats = dataset.load(stored(tmp_path / "floats.npz", images=images / np.float32(255), labels=np.arange(30) % 3))
    assert as_bytes.sha256 == as_floats.sha256
    assert (as_bytes.image_shape, as_bytes.classes) == ((8, 8, 1), ("0", "1", "2"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"pictures": np.zeros((20, 8, 8)), "more": np.zeros((20, 8, 8))},
            "no array `images`: it holds pictures float64 .20, 8, 8., more",
        ),
        ({"images": np.zeros((20, 8))}, "shape"),
        ({"images": np.zeros((20, 8, 8, 2))}, "shape"),
        (
            {"images": np.zeros((20, 8, 8), np.int32)},
            "uint8 in 0 to 255, uint16 in 0 to 65535, floats in 0 to 1 or booleans, got int32 in 0 to 0",
        ),
        ({"images": np.full((20, 8, 8), 1.5)}, "floats in 0 to 1 .* got float64 in 1.5 to 1.5: divide them by 255"),
        ({"images": np.full((20, 8, 8), 1.002)}, "got float64 in 1.002 to 1.002"),
        ({"images": np.full((20, 8, 8), 254, np.int64)}, r"int64 in 254 to 254: convert .*astype\('uint8'\)"),
        ({"images": np.eye(20, 8 * 8, dtype=int).reshape(20, 8, 8)}, r"int64 in 0 to 1: convert .*astype\(bool\)"),
        ({"images": np.full((20, 8, 8), 60_000, np.int32)}, r"int32 in 60000 to 60000: convert .*astype\('uint16'\)"),
        ({"images": np.full((20, 8, 8), 255, np.uint16)}, r"uint16 in 255 to 255: convert .*astype\('uint8'\)"),
        ({"images": np.full((20, 8, 8), -1.0)}, r"float64 in -1 to -1: scale them with \(images \+ 1\) / 2"),
        ({"images": np.full((20, 8, 8), "x")}, "got <U1"),
        ({"images": np.zeros((20, 3, 8, 8))}, "got .20, 3, 8, 8.: move the channels"),
        ({"images": np.zeros((20, 8, 8)), "labels": np.zeros(20)}, "got float64 of shape"),
        ({"images": np.zeros((20, 8, 8)), "labels": np.full(20, "cat")}, "got <U3 of shape"),
        ({"images": np.full((20, 8, 8), None)}, "Object arrays cannot be loaded"),
        ({"images": np.full((20, 8, 8), np.nan)}, "finite values"),
        ({"images": np.zeros((3, 8, 8))}, "holds 3 images"),
        ({"images": np.zeros((20, 8, 8)), "labels": np.zeros(19, int)}, "20 integer labels"),
        ({"images": np.zeros((20, 0, 8))}, "shape"),
        ({"images": np.zeros((20, 8, 8)), "labels": np.full(20, -1)}, "20 integer labels from 0, .* got -1 to -1"),
        ({"images": np.zeros((20, 8, 8)), "labels": np.full(20, 2**40)}, "fewer classes than images"),
    ],
)
def test_an_unfit_npz_is_refused(arrays: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        dataset.load(stored(tmp_path / "x.npz", **arrays))


def test_a_damaged_or_missing_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"not a .npz file"):
        dataset.load(Data(kind="npz", folder=str(tmp_path / "x.npz")))
    with pytest.raises(DataError, match="no file"):
        dataset.load(Data(kind="npz", folder=str(tmp_path / "y.npz")))


def test_bytes_of_0_and_1_are_black_and_white(tmp_path: Path) -> None:
    bits = noise() >> 7
    found = dataset.load(stored(tmp_path / "x.npz", images=bits))
    assert set(np.unique(found.train.images)) == {0, 255}
    assert "note: the values are 0 and 1: taken as 0 and 255" in inspect.describe(found)
    booleans = dataset.load(stored(tmp_path / "y.npz", images=bits.astype(bool)))
    assert booleans.sha256 == found.sha256
    assert not booleans.notes


def test_what_is_less_than_half_a_grey_level_beyond_is_clipped_and_nothing_else_is_rounded(tmp_path: Path) -> None:
    images = noise() / 255 * 1.0002 - 1e-4
    found = dataset.load(stored(tmp_path / "x.npz", images=images))
    expected = np.clip(images, 0, 1).astype(np.float32)[found.train.positions]
    np.testing.assert_array_equal(found.train.images[..., 0], expected)
    assert "note: values beyond 0 to 1, by less than half a grey level of 255, are clipped" in inspect.describe(found)


@pytest.mark.parametrize("deep", [np.uint16, ">u2"])
def test_16_bits_are_kept(deep: object, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 65_536, (30, 8, 8), dtype=np.uint16)
    found = dataset.load(stored(tmp_path / "x.npz", images=images.astype(deep)))
    np.testing.assert_array_equal(found.train.images[..., 0], images[found.train.positions])
    assert (found.train.images.dtype, found.float_images) == (np.uint16, True)
    shown = inspect.describe(found)
    assert f"mean {found.train.images.mean() / 65_535:.4f}" in shown
    dark = dataset.load(stored(tmp_path / "y.npz", images=images >> 4))
    assert "the largest pixel value is 4088 of 65535: are the images in another range?" in inspect.describe(dark)


def test_splits_of_unlike_types_have_the_finest(tmp_path: Path) -> None:
    deep = noise().astype(np.uint16) * np.uint16(250)
    found = dataset.load(stored(tmp_path / "x.npz", x_train=deep, x_test=noise()))
    np.testing.assert_array_equal(found.test.images[..., 0], noise() * np.uint16(257))


def test_a_single_array_of_images_needs_no_name(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", noise())
    plain = dataset.load(Data(kind="npz", folder=str(tmp_path / "x.npy")))
    assert len(plain.train) == 24
    named = dataset.load(stored(tmp_path / "x.npz", imgs=noise(), latents=np.zeros((30, 6)), labels=np.arange(30) % 2))
    assert "note: the array imgs is taken as the images" in inspect.describe(named)
    assert named.classes == ("0", "1")


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (("x_train", "y_train", "x_test", "y_test"), [27, 3, 10]),
        (("train_images", "train_labels", "test_images", "test_labels", "val_images", "val_labels"), [30, 10, 10]),
    ],
)
def test_splits_of_well_known_files_are_kept(names: tuple[str, ...], sizes: list[int], tmp_path: Path) -> None:
    arrays = {}
    for images, labels, count in zip(names[::2], names[1::2], (30, 10, 10), strict=False):
        arrays |= {images: noise(count), labels: (np.arange(count) % 3)[:, np.newaxis]}
    found = dataset.load(stored(tmp_path / "x.npz", **arrays))
    assert [len(split) for split in (found.train, found.validation, found.test)] == sizes
    assert found.classes == ("0", "1", "2")
    assert "are used as the splits" in inspect.describe(found)


def test_splits_of_other_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected images of one shape in all splits"):
        dataset.load(stored(tmp_path / "x.npz", x_train=noise(), x_test=noise(size=9)))


def test_one_label_is_none(tmp_path: Path) -> None:
    found = dataset.load(stored(tmp_path / "x.npz", images=noise(), labels=np.zeros(30, int)))
    assert (found.classes, found.train.labels) == ((), None)
    assert "are of class 0, which separates nothing" in inspect.describe(found)


def header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def test_a_file_that_claims_more_than_it_holds_is_refused_by_its_header(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", header((1 << 44, 8, 8)) + bytes(100))
    (tmp_path / "x.npy").write_bytes(header((1 << 44, 8, 8)))
    for name in ("x.npz", "x.npy"):
        with pytest.raises(DataError, match=r"the header says uint8 .*1125899906842624 bytes, there are"):
            dataset.load(Data(kind="npz", folder=str(tmp_path / name)))


def test_overlapping_and_encrypted_entries_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("images.npy", header((20, 8, 8)) + bytes(1280))
        for _ in range(20):
            archive.filelist.append(archive.filelist[0])
    with pytest.raises(DataError, match="its entries overlap"):
        dataset.load(Data(kind="npz", folder=str(tmp_path / "x.npz")))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npz")
    for path in (tmp_path, tmp_path / "x.npz"):
        with pytest.raises(DataError, match="is not a file: --data npz needs"):
            dataset.load(Data(kind="npz", folder=str(path)))
