"""Reference images from files, folders and arrays; sizes and colours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.errors import InputError
from export.modules import references
from tests.export.modules import user_modules as users


def write(folder: Path, name: str, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(folder / name)
    return folder / name


def test_every_source_gives_the_same_pixels(tmp_path: Path) -> None:
    images = users.images(2)
    for index, each in enumerate(images):
        write(tmp_path, f"{index}.png", each)
    np.savez(tmp_path / "images.npz", images=images)
    np.save(tmp_path / "images.npy", images[..., 0])
    sources = [
        [tmp_path],
        [tmp_path / "0.png", tmp_path / "1.png"],
        [tmp_path / "images.npz"],
        [tmp_path / "images.npy"],
        [images],
        [images / 255],
        [images[0], images[1]],
    ]
    for source in sources:
        found = references.read(source)
        assert np.array_equal(references.of_one_size(found, None), images), source


def test_grey_images_among_coloured_ones_have_three_channels(tmp_path: Path) -> None:
    write(tmp_path, "a.png", users.images(1)[0])
    write(tmp_path, "b.png", users.images(1, channels=3)[0])
    assert [each.pixels.shape for each in references.read([tmp_path])] == [(8, 8, 3), (8, 8, 3)]


def test_several_sizes_are_refused_for_a_fixed_one(tmp_path: Path) -> None:
    write(tmp_path, "a.png", users.images(1)[0])
    write(tmp_path, "b.png", users.images(1, side=12)[0])
    found = references.read([tmp_path])
    with pytest.raises(
        InputError, match=r"one size, 8 x 8 as in a\.png, got 12 x 12 \(b\.png\): .* --image-shape free"
    ):
        references.of_one_size(found, None)
    with pytest.raises(InputError, match=r"expected reference images of 10 x 10, got 8 x 8 \(a\.png\)"):
        references.of_one_size(found, (10, 10))


def test_squares_are_cut_out_of_images_of_any_sizes() -> None:
    found = references.read([users.images(1, side=45)[0], users.images(1, side=100)[0][:, :50]])
    cut = references.crops(found, 4, 8)
    assert cut.shape == (3, 44, 44, 1)
    assert np.array_equal(cut[0], found[0].pixels[:44, :44])


def test_images_below_the_minimum_are_refused() -> None:
    with pytest.raises(InputError, match="at least 32 pixels in height and width, got 16 x 16"):
        references.crops(references.read([users.images(1, side=16)[0]]), 16, 20)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "expected an image file, a folder of them"), (b"nothing", r"a\.png: expected a readable image")],
)
def test_unreadable_files_are_refused(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        references.read([tmp_path / "a.png"])


def test_an_empty_folder_and_a_wrong_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected reference images, got none"):
        references.read([tmp_path])
    with pytest.raises(InputError, match="divide them by 255"):
        references.read([users.images(2).astype(np.float32)])


def test_many_images_are_thinned_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "MAX_IMAGES", 3)
    images = users.images(7)
    found = references.read([images])
    assert np.array_equal(np.stack([each.pixels for each in found]), images[[0, 3, 6]])


def test_folders_of_classes_and_arrays_with_labels_name_classes(tmp_path: Path) -> None:
    images = users.images(3)
    for name, each in zip(("cat", "dog", "cat"), images, strict=True):
        (tmp_path / name).mkdir(exist_ok=True)
        write(tmp_path / name, f"{len(list((tmp_path / name).iterdir()))}.png", each)
    assert [each.label for each in references.read([tmp_path])] == ["cat", "cat", "dog"]
    assert [each.label for each in references.read([tmp_path / "cat"])] == ["", ""]
    np.savez(tmp_path / "images.npz", images=images, labels=np.array([2, 0, 1]))
    assert [each.label for each in references.read([tmp_path / "images.npz"])] == ["2", "0", "1"]
