"""Ways through a latent space."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from server.errors import InvalidArgumentError
from server.services.autoencoder.interpolation import linear, spherical

ENDS = arrays(np.float32, (2, 5), elements=st.floats(-100, 100, width=32))


@given(ends=ENDS, steps=st.integers(2, 40))
@settings(max_examples=50)
def test_a_straight_line_keeps_its_ends_and_its_pace(ends: np.ndarray, steps: int) -> None:
    path = linear(ends[0], ends[1], steps)
    assert path.shape == (steps, 5)
    np.testing.assert_array_equal(path[[0, -1]], ends)
    np.testing.assert_allclose(
        np.diff(path, axis=0), np.tile((ends[1] - ends[0]) / (steps - 1), (steps - 1, 1)), atol=1e-4
    )


@given(ends=ENDS, steps=st.integers(2, 40))
@settings(max_examples=50)
def test_a_great_circle_turns_evenly(ends: np.ndarray, steps: int) -> None:
    lengths = np.linalg.norm(ends.astype(np.float64), axis=1)
    if lengths.min() < 0.1 or ends[0] @ ends[1] < -0.999 * lengths.prod():
        return
    path = spherical(ends[0], ends[1], steps)
    np.testing.assert_array_equal(path[[0, -1]], ends)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), np.linspace(*lengths, steps), rtol=1e-3)
    directions = path / np.linalg.norm(path, axis=1, keepdims=True)
    angles = np.arccos(np.clip((directions[1:] * directions[:-1]).sum(1), -1, 1))
    np.testing.assert_allclose(angles, angles.mean(), atol=2e-3)


def test_a_great_circle_between_neighbours_is_a_straight_line() -> None:
    ends = np.array([[1, 0], [2, 0]], np.float32)
    np.testing.assert_array_equal(spherical(ends[0], ends[1], 3)[:, 0], [1, 1.5, 2])


@pytest.mark.parametrize("other", [[0, 0], [-2, 0]])
def test_where_no_great_circle_is_the_shortest(other: list[float]) -> None:
    with pytest.raises(InvalidArgumentError, match="INTERPOLATION_LINEAR"):
        spherical(np.array([1, 0], np.float32), np.array(other, np.float32), 3)
