from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.config import Data
from training.data import dataset, kinds
from training.data.photos import pairs
from training.errors import DataError


def save(path: Path, height: int = 20, width: int = 24, value: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)


def made(folder: Path, count: int = 12, prefixes: tuple[str, ...] = ("",)) -> Path:
    """Pairs whose noisy pixels are one more than the clean ones, which tell their number."""
    for prefix in prefixes:
        for number in range(count):
            save(folder / "noisy" / prefix / f"{number}.png", 20 + number, value=10 * number + 1)
            save(folder / "clean" / prefix / f"{number}.bmp", 20 + number, value=10 * number)
    return folder


def test_pairs_are_found_by_name_whatever_their_format(tmp_path: Path) -> None:
    found = pairs.find(made(tmp_path, 3))
    assert [(noisy.name, clean.name) for noisy, clean in found] == [(f"{n}.png", f"{n}.bmp") for n in range(3)]
    assert kinds.resolve(None, tmp_path) == "pairs"


def test_crops_of_a_pair_are_of_one_place(tmp_path: Path) -> None:
    found = dataset.load(Data(kind="pairs", folder=str(made(tmp_path)), crop=8))
    assert found.paired
    assert found.image_shape == (8, 8, 3)
    assert found.train.images.shape[1:] == (8, 8, 6)
    assert found.pictures is not None
    for images in (*found.pictures.images, found.test.images):
        assert np.array_equal(images[..., :3] + 1, images[..., 3:])


def test_folders_of_splits_lie_below_both(tmp_path: Path) -> None:
    found = dataset.load(Data(kind="pairs", folder=str(made(tmp_path, 4, ("train", "val", "test"))), crop=8))
    assert "squares of 8x8 out of 4, 4, 4 images" in found.notes[-1]


@pytest.mark.parametrize(
    ("path", "height", "message"),
    [
        ("noisy/extra.png", 20, r"noisy/extra.png has no file of its name in .*clean: add or remove it"),
        ("clean/extra.png", 20, r"clean/extra.png has no file of its name in .*noisy: add or remove it"),
        ("noisy/2.bmp", 20, r"noisy/2.bmp and .*noisy/2.png are the same of a pair: remove one"),
        ("noisy/2.png", 21, r"noisy/2.png is 21x24 \(height, width\), .*clean/2.bmp is 22x24: expected pairs of one"),
    ],
)
def test_files_that_make_no_pair_are_refused(tmp_path: Path, path: str, height: int, message: str) -> None:
    save(made(tmp_path) / path, height)
    with pytest.raises(DataError, match=message):
        dataset.load(Data(kind="pairs", folder=str(tmp_path), crop=8))


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        (21, r"data.crop=21 is larger than an image \(.*0.bmp is 20x24 .*leave the pair out"),
        (0, "differ in size: .*crop"),
    ],
)
def test_pictures_smaller_than_a_crop_are_refused(tmp_path: Path, crop: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset.load(Data(kind="pairs", folder=str(made(tmp_path)), crop=crop))


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected the folders noisy and clean in it"):
        pairs.find(tmp_path)
    for name in pairs.FOLDERS:
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="holds no images"):
        pairs.find(tmp_path)
