"""PNG files of 16 bits, read by other programs' decoders."""

import io

import numpy as np
import pyspng
import pytest
from PIL import Image

from server.codec import png16


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 33)])
def test_colours_are_what_libspng_reads(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 65_536, (*size, 3), dtype=np.uint16)

    file = png16.encode(image)

    # It adds an opaque alpha.
    np.testing.assert_array_equal(pyspng.load(file)[:, :, :3], image)
    assert pyspng.header(file)["bit_depth"] == 16


def test_grey_is_what_pillow_reads() -> None:
    image = np.random.default_rng(0).integers(0, 65_536, (16, 15, 1), dtype=np.uint16)

    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png16.encode(image)))), image[:, :, 0])
