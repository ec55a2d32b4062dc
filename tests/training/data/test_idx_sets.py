import gzip
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import idx_bytes, write_idx
from training.config import Data
from training.data import dataset, inspect
from training.data.dataset import Dataset
from training.errors import DataError


def load(path: Path) -> Dataset:
    return dataset.load(Data(kind="idx", folder=str(path)))


def write(folder: Path, stem: str, count: int, *, labels: bool = True, dot: str = "-", top: int = 256) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, top, (count, 9, 7))
    (folder / f"{stem}images{dot}idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images, 2051)))
    if labels:
        (folder / f"{stem}labels{dot}idx1-ubyte").write_bytes(idx_bytes(np.arange(count) % 3 + 1, 2049))


def test_files_of_any_data_set_with_the_names_of_mnist(tmp_path: Path) -> None:
    write_idx(tmp_path)
    found = load(tmp_path)
    assert [len(split) for split in (found.train, found.validation, found.test)] == [36, 4, 40]
    assert (found.classes, found.image_shape) == (tuple("0123456789"), (28, 28, 1))


def test_a_pair_of_ones_own_is_split(tmp_path: Path) -> None:
    write(tmp_path, "", 30, dot=".")
    found = load(tmp_path)
    assert [len(split) for split in (found.train, found.validation, found.test)] == [24, 3, 3]
    assert (found.classes, found.image_shape) == (("0", "1", "2", "3"), (9, 7, 1))
    assert "no training images of 0" in inspect.describe(found)


def test_images_without_labels(tmp_path: Path) -> None:
    write(tmp_path, "train-", 30, labels=False)
    assert load(tmp_path).classes == ()
    write(tmp_path, "t10k-", 10)
    assert "no labels are used" in inspect.describe(load(tmp_path))


def test_one_of_several_data_sets_is_chosen_by_its_file(tmp_path: Path) -> None:
    raw = tmp_path / "EMNIST" / "raw"
    for name in ("emnist-letters", "emnist-digits"):
        write(raw, f"{name}-train-", 30)
        write(raw, f"{name}-test-", 12)
    with pytest.raises(
        DataError, match=r"holds several data sets \(emnist-digits, emnist-letters\): .*--data-dir .*gz"
    ):
        load(tmp_path)
    found = load(raw / "emnist-letters-train-images-idx3-ubyte.gz")
    assert [len(split) for split in (found.train, found.validation, found.test)] == [27, 3, 12]


def test_a_folder_for_each_file(tmp_path: Path) -> None:
    images, labels = (np.zeros((20, 4, 4)), 2051), (np.arange(20) % 2, 2049)
    for name, (array, magic) in (("train-images.idx3-ubyte", images), ("train-labels.idx1-ubyte", labels)):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(idx_bytes(array, magic))
    assert load(tmp_path).classes == ("0", "1")


def test_values_of_0_and_1_are_black_and_white(tmp_path: Path) -> None:
    write(tmp_path, "train-", 30, top=2)
    found = load(tmp_path)
    assert set(np.unique(found.train.images)) == {0, 255}
    assert "the values are 0 and 1" in inspect.describe(found)


def test_nothing_to_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no file of images such as train-images-idx3-ubyte"):
        load(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((0, 4, 4)), 2051))
    with pytest.raises(DataError, match="holds no pixels"):
        load(tmp_path)
