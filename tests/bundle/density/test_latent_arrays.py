from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bundle.errors import BundleError
from bundle.latents import LatentStatistics
from tests.bundle.test_latents import fitted


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (np.array(["a", "a"]), "expected different names, not empty, without control characters, got 2 of 'a'"),
        (np.array(["a", ""]), "expected different names, not empty, without control characters, got ''"),
        (np.array(["a", "b\n"]), "expected different names, not empty, without control characters, got 'b"),
        (np.array([0.0, 1.0]), "expected text, got float64"),
        (np.array([b"a", b"b"]), r"expected text, got \|S1"),
    ],
)
def test_attributes_without_a_name_of_their_own_are_refused(names: NDArray[Any], message: str) -> None:
    arrays = {**fitted(3)[0].to_arrays(), "attribute_names": names}
    with pytest.raises(BundleError, match=f"^latents.npz: attribute_names: {message}"):
        LatentStatistics.from_arrays(arrays)


def test_attributes_may_have_names_in_any_language() -> None:
    arrays = {**fitted(3)[0].to_arrays(), "attribute_names": np.array(["größe 1", "厚さ\u00a0(mm)"])}
    assert LatentStatistics.from_arrays(arrays).attribute_names.tolist() == ["größe 1", "厚さ\u00a0(mm)"]


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_called_so(number: float) -> None:
    arrays = {**fitted(3)[0].to_arrays(), "attribute_means": np.array([0, number])}
    with pytest.raises(BundleError, match="attribute_means: expected finite float64 numbers, got one that is not fin"):
        LatentStatistics.from_arrays(arrays)
