"""Arrays of latents.npz: their names, axes and types, checked before anything is computed with them."""

import re
from collections import Counter
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.errors import BundleError

MAX_COMPONENTS = 64
MAX_REFERENCE_POINTS = 2_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Characters of a name in a message.
_SHOWN = 50
_OPTIONAL = {
    "covariance",
    "negative_log_density_quantiles",
    "held_out_rows",
    "attribute_maps",
    "reference_points",
    "reference_labels",
    "reference_label_names",
}
TYPES: Mapping[str, type[np.generic]] = {
    "attribute_names": np.str_,
    "reference_points": np.float16,
    "reference_labels": np.int16,
    "reference_label_names": np.str_,
}
_AXES = {
    "mean": "D",
    "components": "kD",
    "variances": "k",
    "total_variance": "",
    "covariance": "DD",
    "mixture_weights": "K",
    "mixture_means": "Kk",
    "mixture_covariances": "Kkk",
    "quantile_levels": "Q",
    "reconstruction_error_quantiles": "Q",
    "latent_distance_quantiles": "Q",
    "negative_log_density_quantiles": "Q",
    "held_out_rows": "",
    "attribute_names": "A",
    "attribute_directions": "AD",
    "attribute_maps": "ADD",
    "attribute_means": "A",
    "attribute_spreads": "A",
    "reference_points": "Rr",
    "reference_labels": "R",
    "reference_label_names": "L",
}


def check(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse arrays that are not those of latents.npz.

    Raises:
        BundleError: missing or unknown ones, shapes that contradict each other, numbers that are not finite, or
            attributes that have no name of their own.
    """
    expected = _AXES.keys()
    if expected - _OPTIONAL - arrays.keys() or arrays.keys() - expected:
        raise BundleError(f"latents.npz: expected {sorted(expected)}, got {sorted(arrays)}")
    sizes: dict[str, int] = {}
    for name in filter(arrays.__contains__, _AXES):
        axes, shape = _AXES[name], arrays[name].shape
        if len(shape) != len(axes) or any(
            sizes.setdefault(axis, size) != size for axis, size in zip(axes, shape, strict=True)
        ):
            raise BundleError(f"latents.npz: {name}: expected shape ({', '.join(axes)}) with {sizes}, got {shape}")
        _check_type(name, arrays[name])
    if sizes["k"] != min(sizes["D"], MAX_COMPONENTS):
        raise BundleError(f"latents.npz: expected {min(sizes['D'], MAX_COMPONENTS)} components, got {sizes['k']}")
    if "attribute_maps" in arrays and sizes["D"] > MAX_COMPONENTS:
        raise BundleError(f"latents.npz: expected attribute_maps of at most {MAX_COMPONENTS} axes, got {sizes['D']}")
    _check_names(arrays["attribute_names"].tolist())
    _check_reference(arrays, sizes)


def _check_type(name: str, array: NDArray[Any]) -> None:
    kind = np.dtype(TYPES.get(name, np.float64))
    if kind.kind == "U":
        if array.dtype.kind != "U":
            raise BundleError(f"latents.npz: {name}: expected text, got {array.dtype}")
    elif array.dtype != kind:
        raise BundleError(f"latents.npz: {name}: expected finite {kind} numbers, got {array.dtype}")
    elif not np.isfinite(array).all():
        raise BundleError(f"latents.npz: {name}: expected finite {kind} numbers, got one that is not finite")


def _check_names(names: list[str]) -> None:
    """Requests ask for attributes by name."""
    expected = "latents.npz: attribute_names: expected different names, not empty, without control characters"
    if unfit := [name for name in names if not name or _CONTROL.search(name)]:
        raise BundleError(f"{expected}, got {unfit[0][:_SHOWN]!r}")
    name, count = max(Counter(names).items(), key=itemgetter(1), default=("", 1))
    if count > 1:
        raise BundleError(f"{expected}, got {count} of {name[:_SHOWN]!r}")


def _check_reference(arrays: Mapping[str, NDArray[Any]], sizes: Mapping[str, int]) -> None:
    width = sizes["D"] if sizes["D"] <= MAX_COMPONENTS else min(sizes.get("r", 1), sizes["k"])
    if sizes.get("r", width) != width or sizes.get("R", 0) > MAX_REFERENCE_POINTS:
        expected = f"at most {MAX_REFERENCE_POINTS} reference points of {width} numbers"
        raise BundleError(f"latents.npz: expected {expected}, got {sizes['R']} of {sizes['r']}")
    labels, last = arrays.get("reference_labels"), sizes.get("L", 0) - 1
    if labels is not None and not ((labels >= 0) & (labels <= last)).all():
        raise BundleError(f"latents.npz: expected reference labels from 0 to {last}, got others")
