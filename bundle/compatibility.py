"""Compatibility checks: the parts of a bundle fit each other and are of a kind that a server knows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from autoencoder.v1 import model_pb2, tiling
from autoencoder.v1.anomaly_maps import scores_of
from autoencoder.v1.model_pb2 import Detection, Model, Signature, TensorSpec
from autoencoder.v1.shapes import DTYPES, FREE, ShapeError, Shapes, Size
from numpy.typing import NDArray

from bundle import latents
from bundle.density.likelihood import check_likelihood
from bundle.detection import check_detection
from bundle.errors import BundleError
from bundle.golden import Case, Golden, SampleCase, agrees
from bundle.graph_memory.trial import MAX_BATCH, largest_batch, trial_side
from bundle.latents import LatentStatistics
from bundle.noise import MAX_SEED

# Graph -> its inputs and outputs; those in brackets are optional.
_TENSORS = {
    "encode": (("images",), ("latents", "[log_variances]")),
    "decode": (("latents",), ("images",)),
    "reconstruct": (("images",), ("reconstructions", "squared_errors")),
    "denoise": (("images",), ("denoised",)),
    "classify": (("images",), ("probabilities",)),
    "detect": (("images",), ("scores", "maps")),
    "log_weights": (("images", "noise"), ("log_weights",)),
    "prior": (("noise",), ("latents",)),
    "log_density": (("latents",), ("log_densities",)),
}
# Sums over an image, in which padding would count: of free sizes the server makes them of what is left after cropping.
_SUMS = {"squared_errors", "scores"}
_FIXED_SIZES = {"log_weights", "prior", "log_density"}
_CHANNELS = (1, 3)
_IMAGES_AXES = 4
# Method -> the graphs that it runs.
_GRAPHS = {
    "Encode": ("encode",),
    "Decode": ("decode",),
    "Reconstruct": ("reconstruct",),
    "Denoise": ("denoise",),
    "Classify": ("classify",),
    "Detect": ("detect",),
    "Score": ("log_weights",),
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
    _check_sizes(model, Shapes.of(model))
    names = [signature.name for signature in model.signatures]
    if len(set(names)) != len(names):
        raise BundleError(f"expected one graph a signature, got {', '.join(names)}")
    for signature in model.signatures:
        _check_signature(model, signature)
    for method in model.methods:
        missing = [graph for graph in _GRAPHS.get(method, ()) if graph not in names]
        if missing:
            raise BundleError(f"method {method} needs the graphs {', '.join(missing)}, which are missing")
    _check_detection(model, names)
    _check_density(model, names)


def _check_detection(model: Model, graphs: Sequence[str]) -> None:
    if model.HasField("detection") != ("detect" in graphs):
        got = "its calibration" if model.HasField("detection") else "the graph"
        raise BundleError(f"expected the graph detect and its calibration, detection, or neither, got {got} alone")
    if model.HasField("detection"):
        check_detection(model.detection, model.height, model.width)


def _check_density(model: Model, graphs: Sequence[str]) -> None:
    if Shapes.of(model).free and (found := sorted(_FIXED_SIZES.intersection(graphs))):
        raise BundleError(f"expected fixed sizes for the graphs {', '.join(found)}, because padding would count")
    if model.HasField("likelihood") != ("log_weights" in graphs):
        got = "the likelihood" if model.HasField("likelihood") else "the graph"
        raise BundleError(f"expected the graph log_weights and its likelihood, or neither, got {got} alone")
    if model.HasField("likelihood"):
        check_likelihood(model.likelihood)
    if "prior" in graphs and ("decode" not in graphs or latents.prior(model.family) != "normal"):
        raise BundleError("expected a decoder, and no mixture to sample from, for a model with the graph prior")
    if ("prior" in graphs) != ("log_density" in graphs):
        raise BundleError("expected the graphs prior and log_density, or neither, got one of them")


def _check_sizes(model: Model, shapes: Shapes) -> None:
    (height, width, _), latent = shapes.image, shapes.latent
    if (height > 0) != (width > 0) or min(height, width) < 0:
        raise BundleError(f"expected images of at least one pixel, or of free sizes (0), got {height} x {width}")
    if shapes.free != model.HasField("sizes"):
        raise BundleError("expected sizes for a model of free height and width, and for no other")
    if min(shapes.multiple, shapes.minimum) < 1 or shapes.maximum_pixels < shapes.minimum**2:
        raise BundleError(f"expected sizes that images can have, got {model.sizes}")
    if shapes.spatial:
        follows = latent[:2] == (0, 0) and shapes.downsampling > 0 and shapes.multiple % shapes.downsampling == 0
        if latent[2] < 1 or (not follows if shapes.free else min(latent) < 1):
            raise BundleError(f"expected spatial latents that follow the image's size, got {list(latent)}")
    elif shapes.free and any(signature.name == "decode" for signature in model.signatures):
        raise BundleError("expected spatial latents, from which the sizes of images follow, for decode of free sizes")
    elif len(latent) != 1 or model.latent_size != latent[0]:
        expected = "expected latents [D] of latent_size numbers or [h, w, c]"
        raise BundleError(f"{expected}, got {list(latent)} and {model.latent_size}")
    level = model.noise_level
    in_order = 0 <= level.minimum <= level.maximum < math.inf
    if not in_order or not (level.default == 0 or level.minimum <= level.default <= level.maximum):
        raise BundleError(f"expected noise levels from 0 to a finite maximum, and a default among them, got {level}")


def _check_signature(model: Model, signature: Signature) -> None:
    if signature.name not in _TENSORS:
        raise BundleError(f"signature {signature.name!r}: expected one of {', '.join(_TENSORS)}")
    _check_names(model, signature)
    if not all(1 <= rows <= MAX_BATCH for rows in signature.batch_buckets):
        raise BundleError(f"signature {signature.name!r}: expected batch buckets of 1 to {MAX_BATCH} rows")
    if not 0 <= signature.golden_tolerance < math.inf:
        raise BundleError(f"signature {signature.name!r}: expected a finite golden tolerance from 0")
    shapes = Shapes.of(model)
    for spec in (*signature.inputs, *signature.outputs):
        shape = shapes.spec(spec.name)
        if list(spec.shape) != shape or spec.data_type not in _types(signature.name, spec.name):
            raise BundleError(
                f"signature {signature.name!r}: {spec.name}: expected shape {shape} and a type "
                f"that a server feeds, got {list(spec.shape)} of {model_pb2.DataType.Name(spec.data_type)}"
            )
    if signature.HasField("tiling"):
        _check_tiling(signature, shapes)


def _check_names(model: Model, signature: Signature) -> None:
    first, outputs = _TENSORS[signature.name]
    if Shapes.of(model).free:
        outputs = tuple(name for name in outputs if name not in _SUMS)
    inputs = [*first, *(["noise_levels"] if _takes_noise_level(model, signature) else [])]
    got = [spec.name for spec in signature.outputs]
    least = [name for name in outputs if not name.startswith("[")]
    most = [name.strip("[]") for name in outputs]
    if [spec.name for spec in signature.inputs] != inputs or got not in (least, most):
        expected = f"{', '.join(inputs)} to {', '.join(outputs)}"
        raise BundleError(f"signature {signature.name!r}: expected {expected}, got {got}")


def _check_tiling(signature: Signature, shapes: Shapes) -> None:
    about = signature.tiling
    if not shapes.free or about.halo < 0 or about.multiple < 1 or not tiling.has_room(about):
        raise BundleError(
            f"signature {signature.name!r}: expected a tile with room for a multiple beside its halo, for free sizes, "
            f"got {about}"
        )


def _takes_noise_level(model: Model, signature: Signature) -> bool:
    return signature.name == "denoise" and model.HasField("noise_level")


def _types(signature: str, tensor: str) -> tuple[int, ...]:
    if tensor == "images" and signature != "decode":
        return (model_pb2.DATA_TYPE_UINT8, model_pb2.DATA_TYPE_FLOAT32)
    return (model_pb2.DATA_TYPE_FLOAT32,)


def check_statistics(model: Model, statistics: LatentStatistics | None) -> None:
    """Compare latents.npz with model.json.

    Raises:
        BundleError: says what differs.
    """
    shapes = Shapes.of(model)
    numbers = shapes.numbers
    if statistics is not None and statistics.latent_size != numbers:
        raise BundleError(f"latents.npz: expected latents of {numbers}, got {statistics.latent_size}")
    names = [] if statistics is None else [str(name) for name in statistics.attribute_names]
    if list(model.attributes) != names:
        raise BundleError(f"latents.npz: expected the attributes {list(model.attributes)}, got {names}")
    # With free sizes a mixture is of channel vectors: it knows nothing of how positions belong together.
    fitted = statistics is not None and len(statistics.mixture_weights) > 0 and not (shapes.free and shapes.spatial)
    if "Sample" in model.methods and latents.prior(model.family) == "mixture" and not fitted:
        raise BundleError(
            "latents.npz: expected a mixture fitted to whole codes, which Sample needs for this family, got none"
        )


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
            _check_case(f"golden.npz: case {index} of {signature.name!r}", model, signature, case)
            if "scores" in case.outputs:
                _check_scores(model.detection, case)
    if golden.sample_case is not None:
        _check_sample(model, golden.sample_case)
    elif any(signature.name == "prior" for signature in model.signatures):
        raise BundleError("golden.npz: expected a sample for a model with the graph prior, got none")


def _check_case(where: str, model: Model, signature: Signature, case: Case) -> None:
    rows = min((len(array) for array in case.inputs.values() if array.ndim), default=0)
    if not 1 <= rows <= largest_batch(signature):
        raise BundleError(f"{where}: expected inputs of 1 to {largest_batch(signature)} rows, got {rows}")
    try:
        size = _image_size(Shapes.of(model), case.inputs)
    except ShapeError as error:
        raise BundleError(f"{where}: {error}") from error
    _check_cells(where, signature, Shapes.of(model), case)
    specs = [_sized(model, spec, size) for spec in (*signature.inputs, *signature.outputs)]
    inputs = len(signature.inputs)
    _check_arrays(f"{where}: inputs", specs[:inputs], case.inputs, rows)
    _check_arrays(f"{where}: outputs", specs[inputs:], case.outputs, rows)


def _check_scores(detection: Detection, case: Case) -> None:
    """Refuse scores that are not what regions and thresholds are made for."""
    expected = scores_of(case.outputs["maps"], detection.score)
    if not agrees(case.outputs["scores"], expected):
        raise BundleError(f"golden.npz: expected scores that are the {detection.score} of their maps, got others")


def _check_cells(where: str, signature: Signature, shapes: Shapes, case: Case) -> None:
    """Refuse golden inputs of free size that need more memory than what the graph was admitted with."""
    first = signature.inputs[0]
    cells = (
        math.prod(case.inputs[first.name].shape[:-1]) if FREE in first.shape[1:] and first.name in case.inputs else 0
    )
    most = max(signature.batch_buckets, default=1) * trial_side(signature, shapes) ** 2
    if cells > most:
        raise BundleError(f"{where}: expected at most {most} cells, a batch of tiles, got {cells}")


def _image_size(shapes: Shapes, inputs: Mapping[str, NDArray[Any]]) -> Size:
    """Height and width of the images that go in, or that the latents decode to."""
    if not shapes.free:
        return shapes.image[:2]
    images, latents = inputs.get("images"), inputs.get("latents")
    if images is None:
        height, width, _ = shapes.image_of(() if latents is None else latents.shape[1:])
        return height, width
    if images.ndim != _IMAGES_AXES or images.shape[1:3] != shapes.padded(*images.shape[1:3]):
        raise ShapeError(f"expected images with sides that are multiples of {shapes.multiple}, got {images.shape}")
    shapes.check_size(*images.shape[1:3])
    return images.shape[1], images.shape[2]


def _sized(model: Model, spec: TensorSpec, size: Size) -> TensorSpec:
    """Spec of a tensor for images of a size that the graphs take without padding."""
    return TensorSpec(name=spec.name, data_type=spec.data_type, shape=Shapes.of(model).sized(size).spec(spec.name))


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
    decoded = case.decoded
    _check_case(where, model, decoder, Case(decoded.inputs, decoded.outputs))
    learned = next((each for each in model.signatures if each.name == "prior"), None)
    if (learned is None) != (case.drawn is None):
        raise BundleError(f"{where}: expected noise for a model with the graph prior, and for no other")
    if learned is not None and case.drawn is not None:
        _check_case(where, model, learned, case.drawn)
