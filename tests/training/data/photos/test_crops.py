from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.config import Data
from training.data import dataset
from training.data.photos.crops import Pictures, RandomCrops, side_by_side
from training.data.split import Split, ragged
from training.errors import DataError

CPU = torch.device("cpu")


def picture(height: int, width: int) -> np.ndarray:
    """Every pixel tells where it is."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], 2).astype(np.uint8)


def pictures(flips: str, side: int = 8) -> Pictures:
    return Pictures([picture(8, 40), picture(50, 9)], np.array([0, 0, 1]), side, flips)


def photographs(folder: Path, count: int = 5) -> str:
    draws = np.random.default_rng(0)
    for number in range(count):
        pixels = draws.integers(0, 256, (20 + 3 * number, 41 - 2 * number, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return str(folder)


def test_squares_lie_side_by_side_around_the_middle() -> None:
    squares, owners = side_by_side(Split(ragged([picture(9, 20), picture(17, 8)]), np.array([5, 6])), 8)
    assert squares.images.shape == (4, 8, 8, 3)
    assert squares.images[:, 0, 0, :2].tolist() == [[0, 2], [0, 10], [0, 0], [8, 0]]
    assert owners.tolist() == [0, 0, 1, 1]
    assert squares.labels is not None
    assert squares.labels.tolist() == [5, 5, 6, 6]


def test_random_crops_are_anywhere_in_their_own_picture_and_the_step_decides_where() -> None:
    crops, rows = RandomCrops(pictures("none"), None, CPU, torch.contiguous_format), torch.tensor([0, 1, 2])
    seen = [crops.visit(rows, slice(0, 3), 0, step)[0] * 255 for step in range(200)]
    assert torch.equal(crops.visit(rows, slice(0, 3), 0, 7)[0] * 255, seen[7])
    lefts = {int(each[0, 1, 0, 0].round()) for each in seen}
    assert (min(lefts), max(lefts)) == (0, 32)
    assert {int(each[2, 0, 0, 0].round()) for each in seen} >= {0, 42}
    for each in seen:
        torch.testing.assert_close(each[:, 1, 0, 7] - each[:, 1, 0, 0], torch.full((3,), 7.0))


def test_a_process_sees_its_share_of_the_same_crops() -> None:
    crops, rows = (
        RandomCrops(pictures("all"), np.array([1, 1, 2]), CPU, torch.contiguous_format),
        torch.tensor([2, 0, 1]),
    )
    whole, labels = crops.visit(rows, slice(0, 3), 3, 4)
    part, its_labels = crops.visit(rows, slice(1, 3), 3, 4)
    assert torch.equal(part, whole[1:])
    assert labels is not None
    assert its_labels is not None
    assert (labels.tolist(), its_labels.tolist()) == ([2, 1, 1], [1, 1])


@pytest.mark.parametrize(("flips", "ways"), [("none", 1), ("horizontal", 2), ("all", 8)])
def test_flips(flips: str, ways: int) -> None:
    square = Pictures([picture(8, 8)], np.array([0]), 8, flips)
    numbers = np.random.default_rng(0).random((100, 4))
    assert len({each.tobytes() for each in square.crops(np.zeros(100, int), numbers)}) == ways


def test_a_folder_of_photographs_of_unlike_sizes_is_split_by_photograph(tmp_path: Path) -> None:
    found = dataset.load(Data(kind="folder", folder=photographs(tmp_path), crop=8))
    assert found.image_shape == (8, 8, 3)
    assert found.pictures is not None
    assert len(found.pictures.images) == 3
    assert len(found.pictures.owners) == len(found.train)
    assert any("squares of 8x8 out of 3, 1, 1 images" in note for note in found.notes)
    other = dataset.load(Data(kind="folder", folder=str(tmp_path), crop=9))
    assert other.sha256 != found.sha256


def test_arrays_can_be_cropped_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.random.default_rng(0).integers(0, 256, (10, 16, 24), np.uint8))
    found = dataset.load(Data(kind="npz", folder=str(tmp_path / "a.npz"), crop=8))
    assert (found.image_shape, len(found.train), len(found.test)) == ((8, 8, 1), 8 * 6, 6)
    with pytest.raises(
        DataError, match=r"data.crop=17 is larger than an image \(image 1 of 8 is 16x24 \(height, width"
    ):
        dataset.load(Data(kind="npz", folder=str(tmp_path / "a.npz"), crop=17))


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        (33, r"data.crop=33 is larger than an image \(.*\.png is "),
        (20, "3 training images hold . squares of data.crop=20"),
    ],
)
def test_crops_that_do_not_fit_are_refused(crop: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        dataset.load(Data(kind="folder", folder=photographs(tmp_path), crop=crop))
