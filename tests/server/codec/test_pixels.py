"""Pixel values from one type to another."""

import numpy as np
import pytest

from server.codec import pixels
from server.codec.pixels import NOISY, UNIT
from server.errors import InvalidArgumentError

FLOAT, BYTE = np.dtype(np.float32), np.dtype(np.uint8)


def test_words_for_floats_are_not_rounded_to_bytes() -> None:
    words = np.arange(65_536, dtype=np.uint16)

    floats = pixels.convert(words, "images", FLOAT, UNIT)

    assert floats.dtype == np.float32
    assert len(np.unique(floats)) == 65_536
    np.testing.assert_array_equal(pixels.to_words(floats), words)


def test_words_for_bytes_are_rounded_to_the_nearest() -> None:
    words = np.array([0, 128, 129, 257, 65_535], np.uint16)

    np.testing.assert_array_equal(pixels.convert(words, "images", BYTE, UNIT), [0, 0, 1, 1, 255])


def test_bytes_are_taken_as_they_are() -> None:
    given = np.arange(256, dtype=np.uint8)

    assert pixels.convert(given, "images", BYTE, UNIT) is given
    np.testing.assert_array_equal(pixels.to_bytes(pixels.convert(given, "images", FLOAT, UNIT)), given)


def test_noise_beyond_white_and_black_is_kept_for_floats() -> None:
    noisy = np.array([-4.0, -0.25, 1.5, 5.0], np.float32)

    np.testing.assert_array_equal(pixels.convert(noisy, "images", FLOAT, NOISY), noisy)


@pytest.mark.parametrize(
    ("value", "dtype", "allowed", "words"),
    [
        (-4.1, FLOAT, NOISY, "from -4 to 5"),
        (5.1, FLOAT, NOISY, "from -4 to 5"),
        (1.1, FLOAT, UNIT, "from 0 to 1"),
        (1.1, BYTE, NOISY, "from 0 to 1"),
        (np.nan, FLOAT, NOISY, "finite"),
    ],
)
def test_floats_out_of_range(value: float, dtype: np.dtype, allowed: pixels.Range, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        pixels.convert(np.array([value], np.float32), "images", dtype, allowed)


def test_only_denoisers_take_noise() -> None:
    assert pixels.range_of("denoise") == NOISY
    assert pixels.range_of("encode") == UNIT
