"""Image files to pixels: the rules, for files of every kind."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from bundle.errors import ImageFileError
from bundle.images.decoder import ImageReader, Limits
from tests.image_kinds import exif, kinds, saved, stored
from tests.reliability.attacks.hostile_images import progressive

HEIGHT, WIDTH = 32, 48
KINDS = kinds(HEIGHT, WIDTH)
MODES = {1: "L", 3: "RGB"}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")


def read(file: bytes, channels: int = 3, target: tuple[int, int] | None = None) -> np.ndarray:
    return ImageReader(file, Limits()).decode(channels, target).pixels


def plainly(file: bytes, channels: int, target: tuple[int, int] | None = None) -> np.ndarray:
    """The rules in Pillow's own words."""
    with Image.open(io.BytesIO(file)) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        upright = Image.fromarray(np.rint(np.asarray(upright, float) / 257).astype(np.uint8))
    elif upright.has_transparency_data:
        layered = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layered.size, (0, 0, 0, 255)), layered)
    flat = upright.convert(MODES[channels])
    pixels = np.asarray(flat if target is None else flat.resize(target, Image.Resampling.LANCZOS))
    return pixels.reshape(*pixels.shape[:2], channels)


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A phone's: twelve megapixels, upright once it is rotated."""
    noise = Image.effect_noise((404, 303), 50).resize((4032, 3024), Image.Resampling.BILINEAR)
    return saved(noise, "JPEG", exif=exif(6), quality=95)


@pytest.mark.parametrize("name", KINDS)
def test_files_of_every_kind_follow_the_rules(name: str) -> None:
    for channels in (1, 3):
        assert read(KINDS[name], channels).shape == (HEIGHT, WIDTH, channels)
        np.testing.assert_array_equal(read(KINDS[name], channels), plainly(KINDS[name], channels))
        np.testing.assert_array_equal(read(KINDS[name], channels, (20, 30)), plainly(KINDS[name], channels, (20, 30)))


@pytest.mark.parametrize("name", ["exif-6.png", "exif-6.tiff", "rgb.bmp", "rgb.tiff", "tiff_lzw.tiff", "pages.tiff"])
def test_lossless_files_of_the_same_image_are_the_same(name: str) -> None:
    np.testing.assert_array_equal(read(KINDS[name]), read(KINDS["rgb.png"]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone(orientation: int) -> None:
    upright = Image.fromarray(np.arange(6 * 5, dtype=np.uint8).reshape(6, 5))
    for kind in ("PNG", "TIFF"):
        file = saved(stored(upright, orientation), kind, exif=exif(orientation))
        decoded = ImageReader(file, Limits()).decode(1)
        np.testing.assert_array_equal(decoded.pixels[..., 0], np.asarray(upright))
        assert decoded.rotated == (orientation != 1)


def test_what_the_rules_changed_is_known() -> None:
    def changes(name: str) -> tuple[bool, bool, bool]:
        decoded = ImageReader(KINDS[name], Limits()).decode(3)
        return decoded.rotated, decoded.transparent, decoded.sixteen_bits

    assert changes("exif-6.jpg") == (True, False, False)
    assert changes("rgba.png") == (False, True, False)
    assert changes("16-bit.tiff") == (False, False, True)
    assert changes("exif-1.jpg") == changes("rgb.png") == (False, False, False)
    opaque = Image.new("RGBA", (4, 4), (1, 2, 3, 255))
    assert not ImageReader(saved(opaque, "PNG"), Limits()).decode(3).transparent


def test_exif_that_cannot_be_read_rotates_nothing() -> None:
    image = Image.new("L", (6, 5))
    assert read(saved(image, "JPEG", exif=b"Exif\0\0no directory"), 1).shape == (5, 6, 1)
    odd = exif(1)
    odd[0x0112] = 9
    assert read(saved(image, "JPEG", exif=odd), 1).shape == (5, 6, 1)


@pytest.mark.parametrize(("target", "scale"), [((32, 32), 2), ((1500, 1000), 2), ((2100, 1575), 1), ((24, 32), 2)])
def test_large_jpeg_files_are_decoded_at_a_reduced_scale_if_resized(
    photo: bytes, target: tuple[int, int], scale: int
) -> None:
    reader = ImageReader(photo, Limits())
    assert reader.decoded_size(None) == reader.size == (4032, 3024)
    assert reader.decoded_size(target) == (4032 // scale, 3024 // scale)
    difference = reader.decode(1, target).pixels.astype(int) - plainly(photo, 1, target)
    assert np.abs(difference).mean() < 1


def test_the_first_scale_below_four_megapixels_is_used() -> None:
    reader = ImageReader(saved(Image.new("L", (8192, 6144)), "JPEG"), Limits())
    assert reader.decoded_size((10, 10)) == (2048, 1536)
    assert reader.decode(1, (10, 10)).pixels.shape == (10, 10, 1)
    small = ImageReader(saved(Image.new("L", (2048, 2048)), "JPEG"), Limits())
    assert small.decoded_size((10, 10)) == (2048, 2048)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_of_32_bits_are_refused(kind: type) -> None:
    with pytest.raises(ImageFileError, match="expected pixels of 8 or 16 bits, got 32"):
        read(saved(Image.fromarray(np.zeros((4, 4), kind)), "TIFF"))


def test_other_formats_are_refused(tmp_path: Path) -> None:
    for kind in ("EPS", "PPM", "ICO", "TGA", "PDF"):
        path = tmp_path / f"x.{kind.lower()}"
        Image.new("RGB", (16, 16)).save(path, kind)
        with pytest.raises(
            ImageFileError, match="expected a PNG, JPEG, WebP, BMP, GIF or TIFF file, got something else"
        ):
            ImageReader(path.read_bytes(), Limits())


@pytest.mark.parametrize("name", KINDS)
def test_half_a_file_is_refused_in_a_sentence(name: str) -> None:
    file = KINDS[name]
    with pytest.raises(ImageFileError, match=r"^expected "):
        read(file[: len(file) // 3])


def test_costly_compressions_are_known() -> None:
    image = Image.new("L", (16, 16))
    for compression, name in (("jpeg", "jpeg"), ("zstd", "zstd"), ("lzma", "lzma"), ("tiff_lzw", ""), (None, "")):
        file = saved(image, "TIFF", compression=compression)
        assert ImageReader(file, Limits()).unbounded_compression == name


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("name", KINDS)
def test_damaged_bytes_give_an_image_or_a_sentence(name: str) -> None:
    draws = np.random.default_rng(len(name))
    for _ in range(10):
        file = bytearray(KINDS[name])
        for place in draws.integers(0, min(len(file), 400), 3):
            file[place] = draws.integers(0, 256)
        # Nothing else may be raised.
        with contextlib.suppress(ImageFileError):
            reader = ImageReader(bytes(file), Limits())
            if np.prod(reader.size) < 10**6:
                reader.decode(3, (20, 30))


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_damaged_exif_of_a_large_jpeg_leaves_it_readable() -> None:
    file = saved(Image.new("L", (2400, 1800)), "JPEG", exif=exif(6))
    start, draws = file.index(b"Exif\0\0") + 6, np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(file)
        for place in draws.integers(start, start + 60, 3):
            damaged[place] = draws.integers(0, 256)
        # Refused only for what its tags would cost.
        with contextlib.suppress(ImageFileError):
            assert ImageReader(bytes(damaged), Limits()).decoded_size((900, 900)) == (1200, 900)


class EndedError(Exception):
    pass


@pytest.mark.parametrize(
    "name", ["progressive.jpg", "rgba.png", "palette.gif", "rgba.webp", "rgb.bmp", "tiff_lzw.tiff"]
)
def test_reading_ends_when_the_call_has_ended(name: str) -> None:
    looks: list[int] = []
    ImageReader(KINDS[name], Limits(), lambda: looks.append(0)).decode(3)
    for last in range(len(looks)):
        left = iter(range(last))

        def wanted(left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise EndedError

        with pytest.raises(EndedError):
            ImageReader(KINDS[name], Limits(), wanted).decode(3)


def test_each_scan_of_a_jpeg_is_read_on_its_own() -> None:
    looks: list[int] = []
    ImageReader(progressive(20, side=64), Limits(), lambda: looks.append(0)).decode(1)
    assert len(looks) > 20
