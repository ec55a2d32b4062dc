"""PNG files against Pillow and libspng."""

from io import BytesIO

import numpy as np
import pyspng
import pytest
from autoencoder.v1 import png
from PIL import Image, ImageCms


@pytest.mark.parametrize("shape", [(1, 1, 1), (300, 7, 1), (5, 9, 3), (513, 2, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_survive(shape: tuple[int, int, int], dtype: type[np.integer]) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype)
    file = png.encode(image)
    assert png.header(file) == (shape[1], shape[0], 8 * image.itemsize, shape[2] == 1)
    # Pillow keeps 16 bits of grey images alone, and libspng adds an opaque channel to colours.
    read = np.asarray(Image.open(BytesIO(file))) if shape[2] == 1 else pyspng.load(file)[..., :3]
    np.testing.assert_array_equal(read.reshape(shape), image)


def test_a_colour_profile_changes_no_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 9, 3), np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Image.open(BytesIO(png.with_profile(png.encode(image), profile))) as read:
        assert read.info["icc_profile"] == profile
        np.testing.assert_array_equal(np.asarray(read), image)


@pytest.mark.parametrize("file", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff" * 20])
def test_what_is_no_png_has_no_header(file: bytes) -> None:
    assert png.header(file) is None
