import numpy as np
import pytest

from bundle.images import element_types


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65_535), (np.float32, 1)])
def test_floats_are_in_0_to_1(dtype: type, white: int) -> None:
    images = np.array([0, white], dtype)
    assert element_types.largest(images.dtype) == white
    np.testing.assert_array_equal(element_types.floats(images), np.array([0, 1], np.float32))


def test_arrays_take_the_finest_type_among_them_and_keep_their_values() -> None:
    coarse, deep = np.arange(256, dtype=np.uint8), np.array([1, 65_535], np.uint16)
    widened, kept = element_types.alike([coarse, deep])
    assert kept is deep
    np.testing.assert_array_equal(widened, coarse * np.uint16(257))
    floats = element_types.alike([coarse, deep, np.zeros(1, np.float32)])
    assert {each.dtype for each in floats} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(floats[0], coarse / np.float32(255))
    assert element_types.alike([coarse])[0] is coarse
