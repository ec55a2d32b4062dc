import numpy as np
import pytest
from scipy.linalg import expm

from bundle.density.moves import Move, exponential


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("scale", [0.0, 1e-9, 0.3, 5.0, 40.0])
def test_the_exponential_is_that_of_scipy(scale: float) -> None:
    matrix = scale * drawn(21, 21) / 21
    np.testing.assert_allclose(exponential(matrix), expm(matrix), rtol=1e-11, atol=1e-11 * np.exp(scale / 2))


def test_without_a_matrix_a_move_is_a_shift() -> None:
    latents = drawn(5, 3).astype(np.float32)
    np.testing.assert_array_equal(Move(drawn(3)).of(latents), latents + drawn(3))
    np.testing.assert_allclose(Move(drawn(3), np.zeros((3, 3))).of(latents), latents + drawn(3), rtol=1e-15)


def test_a_move_follows_its_direction_from_place_to_place() -> None:
    vector, matrix, place = drawn(4), drawn(4, 4), drawn(1, 4)
    steps, at = 20_000, place.copy()
    for _ in range(steps):
        at += (at @ matrix.T + vector) / steps
    np.testing.assert_allclose(Move(vector, matrix).of(place), at, rtol=1e-2)


def test_two_halves_are_a_whole_and_minus_the_amount_is_the_way_back() -> None:
    vector, matrix, latents = drawn(4), drawn(4, 4), drawn(6, 4)
    half, whole, back = (Move(amount * vector, amount * matrix) for amount in (0.5, 1.0, -1.0))
    np.testing.assert_allclose(half.of(half.of(latents)), whole.of(latents), rtol=1e-11)
    np.testing.assert_allclose(back.of(whole.of(latents)), latents, rtol=1e-11, atol=1e-11)


def test_a_row_does_not_depend_on_its_company() -> None:
    latents, move = drawn(300, 40).astype(np.float32), Move(drawn(40), drawn(40, 40))
    together = move.of(latents)
    for row in (0, 7, 299):
        np.testing.assert_array_equal(move.of(latents[row : row + 1])[0], together[row])


def test_a_move_beyond_all_numbers_is_not_finite() -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        moved = Move(1e38 * drawn(64), 1e38 * drawn(64, 64)).of(drawn(1, 64))
    assert not np.isfinite(moved).all()


@pytest.mark.parametrize("entry", [1e308, 1.5 * 2.0**1022, np.inf, np.nan])
def test_the_exponential_of_a_matrix_too_large_for_its_norm_is_not_finite(entry: float) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        assert not np.isfinite(exponential(np.full((4, 4), entry))).any()
        one = np.zeros((4, 4))
        one[0, 0] = entry
        assert not np.isfinite(Move(np.zeros(4), one).of(drawn(1, 4))).any()


@pytest.mark.parametrize("size", [3, 20, 64])
@pytest.mark.parametrize("norm", [1e2, 1e5, 0.9e8])
def test_a_contracting_move_arrives_where_its_direction_vanishes(size: int, norm: float) -> None:
    # Each number falls as fast as the sum of all is above -1.
    matrix = np.ones((size, size)) * norm / size
    moved = Move(-matrix[0], -matrix).of(np.full((1, size), 0.1))
    np.testing.assert_allclose(moved, np.full((1, size), -1 / size), rtol=0, atol=1e-6)


def test_a_contracting_move_too_long_to_be_computed_is_not_finite() -> None:
    matrix = np.ones((3, 3))
    for amount in (1e9, 1e20, 3e38):
        assert not np.isfinite(Move(-amount * matrix[0], -amount * matrix).of(np.full((1, 3), 0.1))).any()
