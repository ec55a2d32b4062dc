"""Reference images from files, folders and arrays; sizes and colours."""

from pathlib import Path

import numpy as np
import pytest
from autoencoder.v1 import png
from PIL import Image

from export import reference_images
from export.errors import InputError
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
        found = reference_images.read(source)
        assert np.array_equal(reference_images.of_one_size(found, None), images), source


def test_grey_images_among_coloured_ones_have_three_channels(tmp_path: Path) -> None:
    write(tmp_path, "a.png", users.images(1)[0])
    write(tmp_path, "b.png", users.images(1, channels=3)[0])
    assert [each.pixels.shape for each in reference_images.read([tmp_path])] == [(8, 8, 3), (8, 8, 3)]


def test_several_sizes_are_refused_for_a_fixed_one(tmp_path: Path) -> None:
    write(tmp_path, "a.png", users.images(1)[0])
    write(tmp_path, "b.png", users.images(1, side=12)[0])
    found = reference_images.read([tmp_path])
    with pytest.raises(InputError, match=r"one size, 8 x 8 as in a\.png, got 12 x 12 \(b\.png\): resize them"):
        reference_images.of_one_size(found, None)
    with pytest.raises(InputError, match=r"expected reference images of 10 x 10, got 8 x 8 \(a\.png\)"):
        reference_images.of_one_size(found, (10, 10))


def test_squares_are_cut_out_of_images_of_any_sizes() -> None:
    found = reference_images.read([users.images(1, side=45)[0], users.images(1, side=100)[0][:, :50]])
    cut = reference_images.crops(found, 4, 8)
    assert cut.shape == (3, 44, 44, 1)
    assert np.array_equal(cut[0], found[0].pixels[:44, :44])


def test_images_below_the_minimum_are_refused() -> None:
    with pytest.raises(InputError, match="at least 32 pixels in height and width, got 16 x 16"):
        reference_images.crops(reference_images.read([users.images(1, side=16)[0]]), 16, 20)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "expected an image file, a folder of them"), (b"nothing", "expected a readable image|is not a .npz file")],
)
@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.npz"])
def test_unreadable_files_are_refused(name: str, content: bytes | None, sentence: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}:? .*({sentence})"):
        reference_images.read([tmp_path / name])


def test_an_empty_folder_and_a_wrong_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected reference images, got none"):
        reference_images.read([tmp_path])
    with pytest.raises(InputError, match="divide them by 255"):
        reference_images.read([users.images(2).astype(np.float32)])


def test_many_images_are_thinned_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_images, "MAX_IMAGES", 3)
    images = users.images(7)
    found = reference_images.read([images])
    assert np.array_equal(np.stack([each.pixels for each in found]), images[[0, 3, 6]])


def test_no_image_is_rounded_and_all_have_the_finest_type(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65_536, (2, 8, 8, 3), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png.encode(deep[0]))
    write(tmp_path, "b.png", users.images(1, channels=3)[0])
    first, second = (each.pixels for each in reference_images.read([tmp_path]))
    np.testing.assert_array_equal(first, deep[0])
    np.testing.assert_array_equal(second, users.images(1, channels=3)[0] * np.uint16(257))
    floats = deep.astype(np.float32) / 65_535
    for images in (deep, floats):
        found = reference_images.read([images])
        np.testing.assert_array_equal(np.stack([each.pixels for each in found]), images)


def test_files_are_read_in_the_channels_asked_for_and_colours_of_an_array_are_refused_as_grey(tmp_path: Path) -> None:
    colours, grey = users.images(1, channels=3), users.images(1)
    write(tmp_path, "a.png", colours[0])
    assert reference_images.read([tmp_path, grey], channels=1)[0].pixels.shape == (8, 8, 1)
    assert reference_images.read([grey], channels=3)[0].pixels.shape == (8, 8, 3)
    with pytest.raises(InputError, match=r"expected grey reference images, got colours \(the array\): convert them"):
        reference_images.read([colours], channels=1)


def test_folders_of_classes_and_arrays_with_labels_name_classes(tmp_path: Path) -> None:
    images = users.images(3)
    for name, each in zip(("cat", "dog", "cat"), images, strict=True):
        (tmp_path / name).mkdir(exist_ok=True)
        write(tmp_path / name, f"{len(list((tmp_path / name).iterdir()))}.png", each)
    assert [each.label for each in reference_images.read([tmp_path])] == ["cat", "cat", "dog"]
    assert [each.label for each in reference_images.read([tmp_path / "cat"])] == ["", ""]
    np.savez(tmp_path / "images.npz", images=images, labels=np.array([2, 0, 1]))
    assert [each.label for each in reference_images.read([tmp_path / "images.npz"])] == ["2", "0", "1"]
