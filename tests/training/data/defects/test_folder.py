from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.config import Data
from training.data import dataset
from training.data.defects import folder
from training.errors import DataError

SIZE = (12, 16)


def picture(path: Path, size: tuple[int, int] = SIZE, seed: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    number = sum(map(ord, str(path))) if seed is None else seed
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def mask(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size, np.uint8)
    pixels[2:5, 3:9] = 255
    Image.fromarray(pixels).save(path)
    return path


def mvtec(place: Path, good: int = 20) -> Path:
    for number in range(good):
        picture(place / "train" / "good" / f"{number:03}.png")
    for number in range(3):
        picture(place / "test" / "good" / f"{number:03}.png")
        picture(place / "test" / "crack" / f"{number:03}.png")
        mask(place / "ground_truth" / "crack" / f"{number:03}_mask.png")
    return place


def settings(**given: object) -> Data:
    return Data.model_validate({"kind": "folder", "normal": "good", **given})


def test_the_layout_of_mvtec_is_recognised_with_its_masks(tmp_path: Path) -> None:
    found = folder.read(mvtec(tmp_path), settings())
    assert (len(found.train), len(found.validation), len(found.test)) == (16, 4, 3)
    judged = found.inspection
    assert judged.calibration.shape == (4, *SIZE, 3)
    assert sorted(judged.kinds) == ["crack"] * 3 + ["good"] * 3
    assert judged.defective is not None
    assert judged.masks is not None
    assert [bool(each) for each in judged.defective] == [kind == "crack" for kind in judged.kinds]
    assert [int(each.sum()) for each in judged.masks] == [18 * kind for kind in judged.defective]
    assert "no val folder: 4 normal images are for calibration" in found.notes


def test_a_folder_for_calibration_is_used_as_such(tmp_path: Path) -> None:
    for number in range(5):
        picture(mvtec(tmp_path) / "val" / "good" / f"v{number}.png")
    found = folder.read(tmp_path, settings())
    assert (len(found.train), len(found.validation)) == (20, 5)


def test_without_splits_a_share_of_the_normal_images_is_for_calibration_and_test(tmp_path: Path) -> None:
    for number in range(30):
        picture(tmp_path / "fine" / f"{number}.png")
    picture(tmp_path / "hole" / "0.png")
    found = folder.read(tmp_path, settings(normal="fine"))
    assert (len(found.train), len(found.validation), len(found.test)) == (22, 5, 3)
    assert found.inspection.kinds.count("hole") == 1
    assert found.inspection.masks is None
    assert any("no masks" in note for note in found.notes)


def test_normal_images_alone_are_enough(tmp_path: Path) -> None:
    for number in range(12):
        picture(tmp_path / f"{number}.png")
    found = folder.read(tmp_path, settings())
    assert (len(found.train), len(found.validation)) == (10, 2)
    assert found.inspection.test is None
    data = dataset.load(settings(folder=str(tmp_path)))
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 2, 2)


def test_images_of_the_test_that_nothing_is_known_of_judge_nothing(tmp_path: Path) -> None:
    mvtec(tmp_path)
    for kind in ("good", "crack"):
        (tmp_path / "test" / kind).rename(tmp_path / kind)
    for number in range(3):
        picture(tmp_path / "test" / f"{number}.png")
        (tmp_path / "good" / f"{number:03}.png").unlink()
        (tmp_path / "crack" / f"{number:03}.png").unlink()
    found = folder.read(tmp_path, settings())
    assert found.inspection.defective is None
    assert any("nothing is judged by them" in note for note in found.notes)


def test_crops_may_come_from_images_of_any_size_but_calibration_is_of_one(tmp_path: Path) -> None:
    mvtec(tmp_path)
    picture(tmp_path / "train" / "good" / "large.png", (40, 40))
    for number in range(9):
        picture(tmp_path / "val" / f"{number}.png")
    data = dataset.load(settings(folder=str(tmp_path), crop=8, grey=True))
    assert data.image_shape == (8, 8, 1)
    assert data.inspection is not None
    assert data.inspection.calibration.shape == (9, *SIZE, 1)
    picture(tmp_path / "val" / "other.png", (14, 16))
    with pytest.raises(DataError, match=r"other.png is 14x16x1, .* images of one size, scale them .*data.size"):
        folder.read(tmp_path, settings(crop=8, grey=True))


@pytest.mark.parametrize(
    ("spoil", "given", "message"),
    [
        (
            lambda place: [each.unlink() for each in (place / "test" / "crack").iterdir()],
            {},
            "3 normal images and no def",
        ),
        (lambda place: [each.unlink() for each in (place / "test" / "good").iterdir()], {}, "3 defective .* no normal"),
        (lambda place: mask(place / "ground_truth" / "crack" / "001_mask.png", (9, 9)), {}, "mask of 12x16 .* got 9x9"),
        (
            lambda place: (place / "ground_truth" / "crack" / "002_mask.png").unlink(),
            {},
            r"002.png has no mask: expected .*ground_truth/crack/002_mask.png",
        ),
        (lambda _: None, {"crop": 13}, r"data.crop=13 is larger than an image \(.* is 12x16"),
        (lambda _: None, {"normal": "fine"}, "expected a folder fine, or train/fine, got good"),
        (lambda _: None, {"masks": "nowhere"}, "nowhere is not a directory: data.masks"),
        (
            lambda place: picture(place / "test" / "loose.png"),
            {},
            "loose.png is in no subfolder that says what it shows",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused_in_a_sentence(
    tmp_path: Path, spoil: Callable[[Path], object], given: dict, message: str
) -> None:
    spoil(mvtec(tmp_path))
    with pytest.raises(DataError, match=message):
        folder.read(tmp_path, settings(**given))


def test_too_few_normal_images_leave_none_for_calibration(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"4 normal images: 4 are left to train on and 0 for calibration"):
        folder.read(mvtec(tmp_path, good=4), settings())
