"""Ranges of what graphs made elsewhere give: there is no network to compare them with."""

from collections.abc import Iterator

import numpy as np
from autoencoder.v1.model_pb2 import Signature
from autoencoder.v1.shapes import FREE

from bundle.golden import Array, Case, agrees
from export.gate.checks import Check, CheckedBundle, Finding
from export.importing.adapt import IMAGES

_SLACK = 1e-5


def _ranges(bundle: CheckedBundle) -> Iterator[Finding]:
    for each in bundle.signatures:
        for case in bundle.golden.of(each.name):
            for output, array in case.outputs.items():
                problem = _shape_problem(each, case, output, array) or _range_problem(output, array)
                yield Finding(each.name, problem, passed=not problem, where=output)


def _shape_problem(signature: Signature, case: Case, output: str, array: Array) -> str:
    """Sizes may have been given by the user, or inferred: only a run shows them."""
    (rows,) = case.inputs.values()
    spec = next(each for each in signature.outputs if each.name == output)
    expected = (len(rows), *spec.shape[1:])
    fits = array.ndim == len(expected) and all(
        one in (FREE, got) for one, got in zip(expected, array.shape, strict=True)
    )
    return "" if fits else f"expected the shape {expected}, got {array.shape}"


def _range_problem(output: str, array: Array) -> str:
    """What is wrong with the values of an output; empty where nothing is."""
    low, high = float(array.min()), float(array.max())
    if not np.isfinite(array).all():
        return "expected finite numbers, got NaN or infinity"
    if output in IMAGES and (low < -_SLACK or high > 1 + _SLACK):
        return f"expected pixels in 0 … 1, got {low:.3g} … {high:.3g}: give --range or --clip, or end in a sigmoid"
    if output in {"maps", "scores"} and low < 0:
        return f"expected numbers from 0, larger where stranger, got {low:.3g}"
    if output == "probabilities" and not agrees(array.sum(axis=1), np.ones(len(array)), _SLACK):
        return "expected rows that sum to 1: end in a softmax"
    return ""


RANGES = Check("numbers", _ranges)
"""Outputs are finite, pixels in 0 … 1, probabilities sum to 1: there is no network to compare with."""
