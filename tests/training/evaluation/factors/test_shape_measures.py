import numpy as np
import pytest
from scipy import ndimage

from training.evaluation.factors import shape_measures


def bar(width: int) -> np.ndarray:
    image = np.zeros((1, 28, 28))
    image[0, 4:24, 12 : 12 + width] = 1
    return image


def sheared(image: np.ndarray, shear: float) -> np.ndarray:
    """The image with its top moved to the right by `shear` pixels a row."""
    return ndimage.affine_transform(image[0], [[1, 0], [shear, 1]], offset=[0, -13.5 * shear], order=1)[np.newaxis]


@pytest.mark.parametrize("width", [2, 4, 6])
def test_the_thickness_of_a_bar_is_its_width(width: int) -> None:
    assert shape_measures.thickness(bar(width))[0] == pytest.approx(width, rel=0.2)


def test_thicker_bars_measure_thicker() -> None:
    measured = [shape_measures.thickness(bar(width))[0] for width in range(1, 8)]
    assert measured == sorted(measured)


@pytest.mark.parametrize("angle", [-0.4, 0.0, 0.2, 0.5])
def test_the_slant_of_a_sheared_bar_is_the_angle(angle: float) -> None:
    assert shape_measures.slant(sheared(bar(4), np.tan(angle)))[0] == pytest.approx(angle, abs=0.05)


def test_empty_and_full_images_are_no_error() -> None:
    for images in (np.zeros((2, 28, 28)), np.ones((2, 28, 28))):
        for measure in shape_measures.MEASURES.values():
            assert np.isfinite(measure(images)).all()


@pytest.mark.parametrize("amount", [-0.3, 0.0, 0.2])
def test_a_sheared_picture_has_the_slant_asked_for_and_as_much_ink(amount: float) -> None:
    before = sheared(bar(4), 0.2)
    after = shape_measures.sheared(before, amount)
    change = shape_measures.slant(after) - shape_measures.slant(before)
    np.testing.assert_allclose(change, amount, atol=0.005)
    assert after.sum() == pytest.approx(before.sum(), rel=1e-3)
    assert after.min() >= 0


def test_an_empty_picture_is_sheared_to_an_empty_one() -> None:
    assert not shape_measures.sheared(np.zeros((1, 28, 28)), 0.3).any()
