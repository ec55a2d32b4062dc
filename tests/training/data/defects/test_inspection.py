import numpy as np
import pytest

from training.config import Data
from training.data import dataset
from training.data.defects.inspection import check_both, one_size
from training.errors import DataError


def test_one_digit_is_normal_and_the_others_are_for_the_test() -> None:
    everything, found = dataset.load(Data()), dataset.load(Data(normal="3"))
    assert found.name == "digits-3"
    assert (found.classes, found.train.labels) == ((), None)
    for split, whole in ((found.train, everything.train), (found.validation, everything.validation)):
        np.testing.assert_array_equal(split.images, whole.images[whole.labels == 3])
    judged = found.inspection
    assert judged is not None
    assert judged.defective is not None
    np.testing.assert_array_equal(judged.calibration, found.validation.images)
    np.testing.assert_array_equal(judged.defective, everything.test.labels != 3)
    assert judged.kinds[:3] == tuple(str(label) for label in everything.test.labels[:3])


def test_what_is_inspected_is_part_of_the_hash() -> None:
    assert dataset.load(Data(normal="3")).sha256 != dataset.load(Data(normal="5")).sha256


def test_a_class_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match=r"data.normal: expected one of 0, 1, .*, 9, got 'x'"):
        dataset.load(Data(normal="x"))


def test_images_of_one_sort_judge_nothing() -> None:
    check_both(np.array([True, False]), "here")
    with pytest.raises(DataError, match="here holds 2 normal images and no defective ones"):
        check_both(np.zeros(2, bool), "here")


def test_images_of_two_sizes_are_refused() -> None:
    with pytest.raises(DataError, match=r"b is 3x2x1, a is 2x2x1"):
        one_size([np.zeros((2, 2, 1)), np.zeros((3, 2, 1))], ["a", "b"])
