import numpy as np
import pytest
from numpy.typing import NDArray

from bundle import npz
from bundle.errors import BundleError
from bundle.golden import Case, Golden, SampleCase, agrees, excess, max_error

RNG = np.random.default_rng(0)
CASES = {
    "encode": (
        Case({"images": np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)}, {"latents": np.ones((2, 3), np.float32)}),
        Case({"images": np.zeros((1, 2, 2, 1), np.uint8)}, {"latents": np.zeros((1, 3), np.float32)}),
    ),
    "decode": (Case({"latents": np.ones((2, 3), np.float32)}, {"images": np.zeros((2, 2, 2, 1), np.float32)}),),
}
SAMPLE = SampleCase(2**64 - 1, 2, 0.5, np.ones((2, 3), np.float32), np.zeros((2, 2, 2, 1), np.float32))


def test_round_trip() -> None:
    back = Golden.from_bytes(Golden(CASES, SAMPLE).to_bytes())
    assert {name: len(cases) for name, cases in back.cases.items()} == {"encode": 2, "decode": 1}
    np.testing.assert_array_equal(back.cases["encode"][0].inputs["images"], CASES["encode"][0].inputs["images"])
    np.testing.assert_array_equal(back.cases["encode"][1].outputs["latents"], CASES["encode"][1].outputs["latents"])
    assert back.sample_case is not None
    assert (back.sample_case.seed, back.sample_case.count, back.sample_case.temperature) == (2**64 - 1, 2, 0.5)
    np.testing.assert_array_equal(back.sample_case.latents, SAMPLE.latents)


def test_no_sample_case() -> None:
    assert Golden.from_bytes(Golden(CASES).to_bytes()).sample_case is None


def test_equal_content_gives_equal_bytes() -> None:
    assert Golden(dict(reversed(CASES.items())), SAMPLE).to_bytes() == Golden(CASES, SAMPLE).to_bytes()


@pytest.mark.parametrize("key", ["encode", "encode/0/images", "encode/x/inputs/images", "sample/seed"])
def test_foreign_keys_are_refused(key: str) -> None:
    with pytest.raises(BundleError, match=r"golden\.npz"):
        Golden.from_bytes(npz.pack({key: np.zeros(1)}))


def test_default_tolerance_is_absolute_and_relative() -> None:
    reference = np.array([0.0, 1.0, -1000.0], np.float32)
    assert agrees(reference + np.array([9e-6, 1e-4, -0.1]), reference)
    assert not agrees(reference + np.array([1.2e-5, 0, 0]), reference)
    assert not agrees(reference + np.array([0, 0, 0.11]), reference)


def test_a_given_tolerance_is_absolute() -> None:
    assert agrees(np.array([1000.02]), np.array([1000.0]), 0.03)
    assert not agrees(np.array([1000.04]), np.array([1000.0]), 0.03)


def test_errors_are_measured_without_wrapping() -> None:
    assert max_error(np.array([0], np.uint8), np.array([255], np.uint8)) == 255
    assert max_error(np.zeros((0, 3)), np.zeros((0, 3))) == 0
    assert excess(np.array([0.5]), np.array([0.0]), 0.25) == 2


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (np.zeros((2, 1)), np.zeros((1, 2))),
        (np.array([np.nan]), np.array([0.0])),
        (np.array([np.inf]), np.array([np.inf])),
        (np.array([0.0]), np.array([np.nan])),
    ],
)
def test_what_is_not_finite_never_agrees(actual: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    assert max_error(actual, expected) == float("inf")
    assert not agrees(actual, expected)
    assert not agrees(actual, expected, 1.0)
