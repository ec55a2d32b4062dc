"""Compatibility checks: the parts of a bundle fit each other and are of a kind that a server knows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from autoencoder.v1 import model_pb2
from autoencoder.v1.model_pb2 import Model, Signature, TensorSpec
from numpy.typing import NDArray

from bundle import latents
from bundle.errors import BundleError
from bundle.golden import Case, Golden, SampleCase
from bundle.graph import MAX_BATCH, largest_batch
from bundle.latents import LatentStatistics
from bundle.noise import MAX_SEED
from bundle.tensor_types import DTYPES

# Graph -> its input and outputs; those in brackets are optional.
_TENSORS = {
    "encode": ("images", ("latents", "[log_variances]")),
    "decode": ("latents", ("images",)),
    "reconstruct": ("images", ("reconstructions", "squared_errors")),
    "denoise": ("images", ("denoised",)),
    "classify": ("images", ("probabilities",)),
}
_CHANNELS = (1, 3)
# Method -> the graphs that it runs.
_GRAPHS = {
    "Encode": ("encode",),
    "Decode": ("decode",),
    "Reconstruct": ("reconstruct",),
    "Denoise": ("denoise",),
    "Classify": ("classify",),
    "Sample": ("decode",),
    "Interpolate": ("encode", "decode"),
    "Edit": ("encode", "decode"),
}


def check_model(model: Model) -> None:
    """Compare graphs, tensors and methods with what a server knows.

    Raises:
        BundleError: says which differs.
    """
    if model.channels not in _CHANNELS:
        raise BundleError(f"expected images of 1 or 3 channels, as image files have, got {model.channels}")
    if model.height < 1 or model.width < 1:
        raise BundleError(f"expected images of at least one pixel, got {model.height} x {model.width}")
    names = [signature.name for signature in model.signatures]
    if len(set(names)) != len(names):
        raise BundleError(f"expected one graph a signature, got {', '.join(names)}")
    for signature in model.signatures:
        _check_signature(model, signature)
    for method in model.methods:
        missing = [graph for graph in _GRAPHS.get(method, ()) if graph not in names]
        if missing:
            raise BundleError(f"method {method} needs the graphs {', '.join(missing)}, which are missing")


def _check_signature(model: Model, signature: Signature) -> None:
    if signature.name not in _TENSORS:
        raise BundleError(f"signature {signature.name!r}: expected one of {', '.join(_TENSORS)}")
    _check_names(signature)
    if not all(1 <= rows <= MAX_BATCH for rows in signature.batch_buckets):
        raise BundleError(f"signature {signature.name!r}: expected batch buckets of 1 to {MAX_BATCH} rows")
    if not 0 <= signature.golden_tolerance < math.inf:
        raise BundleError(f"signature {signature.name!r}: expected a finite golden tolerance from 0")
    shapes: dict[str, list[int]] = {
        "images": [-1, model.height, model.width, model.channels],
        "latents": [-1, model.latent_size],
        "probabilities": [-1, len(model.labels)],
        "squared_errors": [-1],
    }
    shapes |= {"reconstructions": shapes["images"], "denoised": shapes["images"], "log_variances": shapes["latents"]}
    for spec in (*signature.inputs, *signature.outputs):
        if list(spec.shape) != shapes[spec.name] or spec.data_type not in _types(signature.name, spec.name):
            raise BundleError(
                f"signature {signature.name!r}: {spec.name}: expected shape {shapes[spec.name]} and a type "
                f"that a server feeds, got {list(spec.shape)} of {model_pb2.DataType.Name(spec.data_type)}"
            )


def _check_names(signature: Signature) -> None:
    input_name, outputs = _TENSORS[signature.name]
    got = [spec.name for spec in signature.outputs]
    least = [name for name in outputs if not name.startswith("[")]
    most = [name.strip("[]") for name in outputs]
    if [spec.name for spec in signature.inputs] != [input_name] or got not in (least, most):
        raise BundleError(f"signature {signature.name!r}: expected {input_name} to {', '.join(outputs)}, got {got}")


def _types(signature: str, tensor: str) -> tuple[int, ...]:
    if tensor == "images" and signature != "decode":
        return (model_pb2.DATA_TYPE_UINT8, model_pb2.DATA_TYPE_FLOAT32)
    return (model_pb2.DATA_TYPE_FLOAT32,)


def check_statistics(model: Model, statistics: LatentStatistics | None) -> None:
    """Compare latents.npz with model.json.

    Raises:
        BundleError: says what differs.
    """
    if statistics is not None and statistics.latent_size != model.latent_size:
        raise BundleError(f"latents.npz: expected latents of {model.latent_size}, got {statistics.latent_size}")
    names = [] if statistics is None else [str(name) for name in statistics.attribute_names]
    if list(model.attributes) != names:
        raise BundleError(f"latents.npz: expected the attributes {list(model.attributes)}, got {names}")
    fitted = statistics is not None and len(statistics.mixture_weights) > 0
    if "Sample" in model.methods and latents.prior(model.family) == "mixture" and not fitted:
        raise BundleError("latents.npz: expected a fitted mixture, which Sample needs for this family, got none")


def check_golden(model: Model, golden: Golden) -> None:
    """Compare the tensors of golden.npz with those of the graphs: a tensor left out would not be tested.

    Raises:
        BundleError: says what is missing or has another form.
    """
    for signature in model.signatures:
        cases = golden.cases.get(signature.name, ())
        if not cases:
            raise BundleError(f"golden.npz: expected a case for signature {signature.name!r}, got none")
        for index, case in enumerate(cases):
            _check_case(f"golden.npz: case {index} of {signature.name!r}", signature, case)
    if golden.sample_case is not None:
        _check_sample(model, golden.sample_case)


def _check_case(where: str, signature: Signature, case: Case) -> None:
    rows = min((len(array) for array in case.inputs.values() if array.ndim), default=0)
    if not 1 <= rows <= largest_batch(signature):
        raise BundleError(f"{where}: expected inputs of 1 to {largest_batch(signature)} rows, got {rows}")
    _check_arrays(f"{where}: inputs", signature.inputs, case.inputs, rows)
    _check_arrays(f"{where}: outputs", signature.outputs, case.outputs, rows)


def _check_arrays(where: str, specs: Sequence[TensorSpec], arrays: Mapping[str, NDArray[Any]], rows: int) -> None:
    expected = {spec.name: (DTYPES[spec.data_type], (rows, *spec.shape[1:])) for spec in specs}
    got = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    if expected != got:
        raise BundleError(f"{where}: expected {_forms(expected)}, got {_forms(got)}")


def _forms(arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in sorted(arrays.items())) or "none"


def _check_sample(model: Model, case: SampleCase) -> None:
    where = "golden.npz: the sample"
    decoder = next((each for each in model.signatures if each.name == "decode"), None)
    if decoder is None:
        raise BundleError(f"{where}: expected a graph that decodes it, got none")
    rows = len(case.latents) if case.latents.ndim else 0
    counted = case.count == rows and 1 <= rows <= largest_batch(decoder)
    if not (counted and 0 <= case.seed <= MAX_SEED and math.isfinite(case.temperature)):
        raise BundleError(f"{where}: expected a 64-bit seed and as many latents as it counts, got seed {case.seed}")
    _check_arrays(where, decoder.inputs, {"latents": case.latents}, case.count)
    _check_arrays(where, decoder.outputs, {"images": case.images}, case.count)
