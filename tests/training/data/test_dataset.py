from pathlib import Path

import numpy as np
import pytest

from training.config import Data
from training.data import dataset
from training.errors import DataError


def test_digits_are_28_pixels_wide_and_split_without_overlap() -> None:
    digits = dataset.load(Data(kind="digits"))
    assert digits.image_shape == (28, 28, 1)
    assert [len(split) for split in (digits.train, digits.validation, digits.test)] == [1350, 150, 297]
    assert digits.train.images.dtype == np.uint8
    assert digits.train.images.max() == 255
    seen = {image.tobytes() for image in digits.train.images}
    assert not seen & {image.tobytes() for image in digits.test.images}
    assert np.bincount(digits.test.labels, minlength=10).min() >= 20


def test_the_split_and_its_hash_never_change() -> None:
    assert dataset.digits().sha256 == dataset.digits().sha256
    first, second = dataset.hold_out(dataset.digits().train, 50)
    again = dataset.hold_out(dataset.digits().train, 50)
    np.testing.assert_array_equal(first.images, again[0].images)
    assert (len(first), len(second)) == (1300, 50)


def test_one_pixel_changes_the_hash() -> None:
    digits, other = dataset.digits(), dataset.digits()
    other.test.images[3, 4, 5] ^= 1
    assert digits.sha256 != other.sha256


def test_mnist_wants_a_folder() -> None:
    with pytest.raises(DataError, match="--data-dir"):
        dataset.load(Data(kind="mnist"))
    with pytest.raises(DataError, match="no train-images"):
        dataset.load(Data(kind="mnist", folder=str(Path("nowhere"))))
