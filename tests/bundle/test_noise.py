import numpy as np
import pytest
from scipy import special, stats

from bundle.noise import MAX_SEED, SCHEME, Purpose, inverse_normal_cdf, normals, uniforms


def test_golden_values_freeze_the_scheme() -> None:
    assert SCHEME == "philox4x64-10-as241-v1"
    assert [value.hex() for value in uniforms(42, Purpose.MIXTURE, 7, 1, 3)[0].tolist()] == [
        "0x1.6f058ff84da2ap-2",
        "0x1.8b85df8106257p-1",
        "0x1.dd640f11d98b2p-2",
    ]
    assert [value.hex() for value in normals(42, Purpose.SAMPLE, 0, 1, 5)[0].tolist()] == [
        "-0x1.21be380000000p-3",
        "0x1.cdabbc0000000p-1",
        "0x1.72b9760000000p-6",
        "-0x1.2462440000000p-2",
        "-0x1.f5ce1e0000000p+0",
    ]
    assert [value.hex() for value in normals(MAX_SEED, Purpose.ENCODE, 10**12, 1, 2)[0].tolist()] == [
        "-0x1.b7e3680000000p-3",
        "-0x1.4b1fb80000000p+0",
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 20])
def test_a_row_depends_on_its_index_alone(size: int) -> None:
    whole = normals(9, Purpose.SAMPLE, 0, 70, size)
    assert whole.shape == (70, size)
    assert whole.dtype == np.float32
    for first, count in ((0, 1), (1, 3), (31, 39), (69, 1), (5, 0)):
        np.testing.assert_array_equal(normals(9, Purpose.SAMPLE, first, count, size), whole[first : first + count])


def test_rows_seeds_and_purposes_are_independent() -> None:
    drawn = [uniforms(seed, purpose, 0, 50, 6) for seed in (0, 1, MAX_SEED) for purpose in Purpose]
    assert len(np.unique(np.stack(drawn))) == len(drawn) * 50 * 6


def test_uniforms_are_uniform_and_open() -> None:
    drawn = uniforms(3, Purpose.MIXTURE, 0, 20_000, 3).ravel()
    assert drawn.min() > 0
    assert drawn.max() < 1
    assert stats.kstest(drawn, "uniform").pvalue > 0.001


def test_normals_are_normal_and_independent() -> None:
    drawn = normals(3, Purpose.SAMPLE, 0, 20_000, 4)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 0.001
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(4), atol=0.04)
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.03


def test_inverse_cdf_agrees_with_scipy_from_the_first_cell_to_the_last() -> None:
    tails = 2.0 ** -np.arange(1, 54)
    inner = np.random.default_rng(0).random(10_000)
    probabilities = np.concatenate([tails, 1 - tails[:52], inner])
    np.testing.assert_allclose(inverse_normal_cdf(probabilities), special.ndtri(probabilities), rtol=3e-15, atol=1e-16)


@pytest.mark.parametrize(("seed", "first", "count"), [(-1, 0, 1), (MAX_SEED + 1, 0, 1), (0, -1, 1), (0, 0, -1)])
def test_what_is_out_of_range_is_refused(seed: int, first: int, count: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        uniforms(seed, Purpose.SAMPLE, first, count, 1)
