"""Headers of image files, and files that are decoded by the client."""

from io import BytesIO

import numpy as np
import pytest
from hourglass_client import InvalidArgumentError
from hourglass_client.bands.files import decode, facts
from PIL import Image

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def stored(image: Image.Image, form: str, orientation: int = 1) -> bytes:
    stream = BytesIO()
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(stream, form, exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_size_is_the_upright_one(form: str, orientation: int) -> None:
    file = stored(Image.fromarray(GREY), form, orientation)
    known = facts(file)
    assert known is not None
    assert known.size == decode("images", file, 1, keep_sixteen_bits=True).shape[:2]
    assert not known.sixteen_bits


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_seen_and_kept(form: str) -> None:
    words = GREY.astype(np.uint16) * 5000
    file = stored(Image.fromarray(words), form)
    known = facts(file)
    assert known == ((3, 4), True)
    np.testing.assert_array_equal(decode("images", file, 1, keep_sixteen_bits=True)[..., 0], words)


@pytest.mark.parametrize("file", [b"", b"no image", stored(Image.fromarray(GREY), "JPEG")[:20]])
def test_other_bytes_have_no_facts(file: bytes) -> None:
    assert facts(file) is None


def test_a_damaged_file_is_named() -> None:
    file = stored(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)), "PNG")
    with pytest.raises(InvalidArgumentError, match=r"images.encoded.files\[3\]: expected a readable PNG"):
        decode("images.encoded.files[3]", file[:1000], 1, keep_sixteen_bits=True)


def test_pillow_keeps_its_own_limit_for_others() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    decode("images", stored(Image.fromarray(GREY), "PNG"), 1, keep_sixteen_bits=False)
    assert limit == Image.MAX_IMAGE_PIXELS
