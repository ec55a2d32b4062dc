import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.data.test_arrays import stored
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
    with pytest.raises(DataError, match=r"z.png is 7x9x3, 0.png is 16x16x3.*data.size"):
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
    with pytest.raises(DataError, match="none does not exist: check --data-dir"):
        dataset.load(Data(kind="folder", folder=str(tmp_path / "none")))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="file is not a directory"):
        dataset.load(Data(kind="folder", folder=str(tmp_path / "file")))


def shown(folder: Path) -> str:
    """The summary of a folder of images."""
    return inspect.describe(dataset.load(Data(kind="folder", folder=str(folder))))


def test_links_to_class_folders_are_followed_once(tmp_path: Path) -> None:
    paint(tmp_path / "elsewhere", ("square",))
    paint(tmp_path / "data", ("round",))
    (tmp_path / "data" / "another_square").symlink_to(tmp_path / "elsewhere" / "square")
    (tmp_path / "data" / "square").symlink_to(tmp_path / "elsewhere" / "square")
    (tmp_path / "data" / "a_circle").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "round" / "up").symlink_to("..")
    (tmp_path / "data" / "gone").symlink_to(tmp_path / "nowhere")
    text = shown(tmp_path / "data")
    assert "32 train, 4 validation, 4 test images of 16x16x3, 2 classes" in text
    assert "another_square, round" in text
    assert "3 links (a_circle, square, round/up) skipped: to a directory that is read under another name" in text
    assert "1 broken link (gone) skipped" in text


def test_a_linked_file_is_an_image(tmp_path: Path) -> None:
    paint(tmp_path / "elsewhere", ("",), 12)
    (tmp_path / "data").mkdir()
    for path in (tmp_path / "elsewhere").iterdir():
        (tmp_path / "data" / path.name).symlink_to(path)
    assert "10 train, 1 validation, 1 test" in shown(tmp_path / "data")


def test_hidden_entries_are_skipped_and_counted(tmp_path: Path) -> None:
    paint(tmp_path)
    paint(tmp_path, (".ipynb_checkpoints", "cat/.ipynb_checkpoints", "__MACOSX/cat"), 3)
    (tmp_path / "cat" / "._0.png").write_bytes(b"Mac OS X")
    (tmp_path / ".DS_Store").write_bytes(b"")
    (tmp_path / "labels.csv").write_text("")
    text = shown(tmp_path)
    assert "32 train, 4 validation, 4 test images of 16x16x3, 2 classes,\n  cat, dog,\n" in text
    assert "note: 11 hidden files skipped" in text
    assert "note: files that are not images skipped: 1 .csv" in text
    assert "convert them" not in text


def test_what_would_wait_for_a_writer_is_skipped_by_name(tmp_path: Path) -> None:
    paint(tmp_path)
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.png"))
        assert "2 entries (s.png, cat/pipe.png) skipped: neither a file nor a directory" in shown(tmp_path)


def test_an_entry_that_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    paint(tmp_path)
    (tmp_path / "cat" / "far").symlink_to("x" * 300)
    with pytest.raises(DataError, match=r"cat/far cannot be read \(File name too long\)"):
        shown(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        shown(tmp_path / ("x" * 300))


def test_one_class_is_none(tmp_path: Path) -> None:
    paint(tmp_path, ("all",))
    found = dataset.load(Data(kind="folder", folder=str(tmp_path)))
    assert (found.classes, found.train.labels, found.test.labels) == ((), None, None)
    assert "all training images are of class all, which separates nothing: they are treated as unlabelled" in shown(
        tmp_path
    )


def test_folders_named_like_splits_are_the_splits(tmp_path: Path) -> None:
    for split, count in (("Train", 20), ("valid", 3), ("test", 4)):
        paint(tmp_path / split, count=count)
    paint(tmp_path / "test", ("bird",), 1)
    found = dataset.load(Data(kind="folder", folder=str(tmp_path)))
    assert [len(split) for split in (found.train, found.validation, found.test)] == [40, 6, 9]
    assert found.classes == ("bird", "cat", "dog")
    assert found.test.labels.tolist() == [0, *[1] * 4, *[2] * 4]
    assert (found.source_count, found.train.positions.tolist()) == (40, list(range(40)))
    text = shown(tmp_path)
    assert "the folders Train (train), test (test), valid (validation) are used as the splits" in text
    assert "no training images of bird" in text


def test_a_split_without_a_folder_comes_from_the_training_images(tmp_path: Path) -> None:
    paint(tmp_path / "train", count=20)
    paint(tmp_path / "test", count=4)
    found = dataset.load(Data(kind="folder", folder=str(tmp_path)))
    assert [len(split) for split in (found.train, found.validation, found.test)] == [36, 4, 8]
    assert "there are no validation images: a tenth of train each" in shown(tmp_path)
    assert found.classes == ("cat", "dog")


def test_a_test_folder_without_classes_makes_all_unlabelled(tmp_path: Path) -> None:
    paint(tmp_path / "train")
    paint(tmp_path / "test", ("",), 4)
    found = dataset.load(Data(kind="folder", folder=str(tmp_path)))
    assert (found.classes, len(found.test), found.train.labels) == ((), 4, None)
    assert "no labels are used: 4 images are in no class subfolder (test/0.png)" in shown(tmp_path)


def test_splits_that_cannot_be_meant_are_refused_or_named(tmp_path: Path) -> None:
    paint(tmp_path, ("train", "test", "ground_truth"))
    assert "test, train are taken as classes, not as splits, because there are also images in ground_truth" in shown(
        tmp_path
    )
    paint(tmp_path / "both", ("train", "val", "valid"))
    with pytest.raises(DataError, match="val and valid are both for the validation images"):
        shown(tmp_path / "both")


def test_names_of_classes_become_printable_and_stay_different(tmp_path: Path) -> None:
    paint(tmp_path, (os.fsdecode(b"r\xfcnd"), "r\\xfcnd", "ründ", "圆🙂", "a\nb"), 5)
    found = dataset.load(Data(kind="folder", folder=str(tmp_path)))
    assert set(found.classes) == {"r\\xfcnd", "r\\xfcnd (2)", "ründ", "圆🙂", "a\\nb"}
    assert json.loads(json.dumps(found.classes).encode()) == list(found.classes)
    assert [np.bincount(split.labels, minlength=5).sum() for split in (found.train, found.test)] == [21, 2]


def test_many_classes_are_named_in_part(tmp_path: Path) -> None:
    paint(tmp_path, tuple("abcdefghijkl"), 2)
    assert "\n  a, b, c, d, e, f, g, h, i, j, … and 2 more,\n" in shown(tmp_path)


def test_images_in_a_wrong_range_are_noted(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for number in range(12):
        Image.fromarray(np.eye(16, dtype=np.uint8) * number).save(tmp_path / "masks" / f"{number}.png")
    assert "the largest pixel value is 11 of 255: are the images in another range?" in shown(tmp_path)


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


def test_images_of_formats_that_are_not_read_are_named_with_what_to_do(tmp_path: Path) -> None:
    paint(tmp_path)
    for name in ("a.HEIC", "b.heic", "c.avif", "notes.txt"):
        (tmp_path / "cat" / name).write_bytes(b"")
    text = shown(tmp_path)
    assert "images skipped that cannot be read here, convert them to JPEG or PNG: 1 .avif, 2 .heic" in text
    assert "files that are not images skipped: 1 .txt" in text
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"holds 0 images .*convert them to JPEG or PNG: 1 .avif, 2 .heic"):
        shown(tmp_path)
