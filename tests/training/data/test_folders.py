from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import checkpoint
from training.config import Data
from training.data import dataset, inspect
from training.errors import DataError
from training.recipe import load_recipe
from training.train import train


def paint(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 20, size: int = 16) -> None:
    draws = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = draws.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def test_subfolders_are_classes(tmp_path: Path) -> None:
    paint(tmp_path)
    found = dataset.load(Data(kind="folder", folder=str(tmp_path)))
    assert (found.classes, found.image_shape) == (("cat", "dog"), (16, 16, 3))
    assert [len(split) for split in (found.train, found.validation, found.test)] == [32, 4, 4]
    assert np.concatenate([found.train.labels, found.validation.labels, found.test.labels]).sum() == 20


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    paint(tmp_path, ("",))
    found = dataset.load(Data(kind="folder", folder=str(tmp_path), grey=True, size=8))
    assert (found.classes, found.image_shape, found.train.labels) == ((), (8, 8, 1), None)


@pytest.mark.parametrize("recipe", ["conv-ae", "deconv-ae", "denoiser", "vae-gan"])
def test_colour_images_train_in_every_kind_of_network(recipe: str, tmp_path: Path) -> None:
    paint(tmp_path / "data")
    settings = {"data": {"kind": "folder", "folder": str(tmp_path / "data")}}
    train(load_recipe(recipe, "folder", ["run.epochs=1", "evaluation.nll_samples=0"], settings), tmp_path / "run")
    loaded = checkpoint.load(tmp_path / "run")
    assert loaded.model.image_shape == (16, 16, 3)
    assert loaded.reference.images.shape == (4, 16, 16, 3)
    assert (tmp_path / "run" / "reconstructions.png").is_file()


def test_unlabelled_images_are_no_food_for_a_classifier(tmp_path: Path) -> None:
    paint(tmp_path / "data", ("",))
    settings = {"data": {"kind": "folder", "folder": str(tmp_path / "data")}, "run": {"epochs": 1}}
    with pytest.raises(Exception, match="needs labelled images"):
        train(load_recipe("multitask-vae", "folder", [], settings), tmp_path / "run")


def test_other_sizes_are_refused_by_name(tmp_path: Path) -> None:
    paint(tmp_path)
    Image.new("RGB", (9, 7)).save(tmp_path / "dog" / "z.png")
    with pytest.raises(DataError, match=r"z.png is 9x7, 0.png is 16x16.*data.size"):
        dataset.load(Data(kind="folder", folder=str(tmp_path)))


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    paint(tmp_path)
    path = tmp_path / "cat" / "3.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"3.png cannot be read"):
        dataset.load(Data(kind="folder", folder=str(tmp_path)))


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds 0 images .* at least 10"):
        dataset.load(Data(kind="folder", folder=str(tmp_path)))
    with pytest.raises(DataError, match="is not a directory"):
        dataset.load(Data(kind="folder", folder=str(tmp_path / "none")))


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
        ({"pictures": np.zeros((20, 8, 8))}, "no array `images`: it holds pictures"),
        ({"images": np.zeros((20, 8))}, "shape"),
        ({"images": np.zeros((20, 8, 8, 2))}, "shape"),
        ({"images": np.zeros((20, 8, 8), np.int32)}, "uint8 in 0 to 255 or floats"),
        ({"images": np.full((20, 8, 8), 1.5)}, "float images in 0 to 1, got 1.5 to 1.5"),
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


def test_the_summary_names_what_is_odd(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    images[20:] = images[:20]
    images[5:9] = 7
    text = inspect.describe(dataset.load(stored(tmp_path / "x.npz", images=images, labels=np.arange(40) // 38)))
    assert "images of 8x8x1, 2 classes" in text
    assert "of one flat colour" in text
    assert "are also training images" in text


def test_flat_images_are_refused(tmp_path: Path) -> None:
    flat = dataset.load(stored(tmp_path / "x.npz", images=np.full((40, 8, 8), 9, np.uint8)))
    with pytest.raises(DataError, match="one flat colour; nothing can be learnt"):
        inspect.describe(flat)


def test_the_summary_of_digits_has_nothing_odd() -> None:
    text = inspect.describe(dataset.digits())
    assert "1350 train, 150 validation, 297 test images of 28x28x1, 10 classes" in text
    assert "note" not in text


def test_moments_are_those_of_numpy() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_allclose(inspect.moments(images), [(images / 255).mean(), (images / 255).std()])
