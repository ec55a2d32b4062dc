"""Describes the content of a bundle as text; reads the bytes, runs nothing."""

from collections.abc import Iterator
from pathlib import Path

from autoencoder.v1.model_pb2 import DataType, Model, Signature, TensorSpec

from bundle import layout
from bundle.detection import check_detection
from bundle.errors import BundleError
from bundle.graph import read_graph
from bundle.layout import SIGNING_FILE
from export.errors import InputError
from export.text_table import aligned

_KIB = 1024


def describe(folder: Path) -> str:
    """Describe a version's folder.

    Raises:
        InputError: there is no version in the folder, or its files differ from its list.
    """
    try:
        model = layout.read_model(folder)
        if model.HasField("detection"):
            check_detection(model.detection, model.height, model.width)
        contents = layout.read_files(folder, model)
        graphs = [
            line
            for signature in model.signatures
            for line in _graph(signature, contents[signature.file], imported=model.imported)
        ]
    except BundleError as error:
        raise InputError(str(error)) from error
    signed = "signed" if (folder / SIGNING_FILE).is_file() else "not signed"
    return "\n".join([*_head(model, signed), *graphs, *_files(model)])


def _head(model: Model, signed: str) -> Iterator[str]:
    origin = "imported" if model.imported else "exported"
    yield f"{model.name} version {model.version}: family {model.family}, {origin}, {signed}"
    rows = [
        ("images", _images(model)),
        ("latents", _latents(model)),
        ("noise levels", _noise_levels(model)),
        ("methods", ", ".join(model.methods)),
        *_detection(model),
        ("likelihood", _likelihood(model)),
        ("labels", ", ".join(model.labels)),
        ("attributes", ", ".join(model.attributes)),
        *((name, f"{model.metrics[name]:.6g}") for name in sorted(model.metrics)),
        *((name, model.provenance[name]) for name in sorted(model.provenance)),
    ]
    yield from aligned([(f"  {name}", value) for name, value in rows if value])


def _images(model: Model) -> str:
    if not model.HasField("sizes"):
        return f"{model.height} x {model.width} x {model.channels}"
    sizes = model.sizes
    padded = f", padded to multiples of {sizes.multiple}" if sizes.multiple > 1 else ""
    limits = f"from {sizes.minimum} x {sizes.minimum} to {sizes.maximum_pixels:,} pixels"
    return f"any size {limits}{padded}, x {model.channels}"


def _latents(model: Model) -> str:
    if not model.latent_shape:
        return str(model.latent_size) if model.latent_size else "none"
    return " x ".join(str(size) if size else f"side / {model.downsampling}" for size in model.latent_shape)


def _noise_levels(model: Model) -> str:
    if not model.HasField("noise_level"):
        return ""
    level = model.noise_level
    default = f", {level.default:g} by default" if level.default else ", which a request must name"
    return f"{level.minimum:g} to {level.maximum:g}{default}"


def _likelihood(model: Model) -> str:
    if not model.HasField("likelihood"):
        return ""
    about = model.likelihood
    sigma = f", standard deviation {about.sigma:g}" if about.sigma else ""
    drawn = ", of images drawn to be black and white" if about.binarised else ""
    return f"{about.distribution}{sigma}{drawn}"


def _detection(model: Model) -> Iterator[tuple[str, str]]:
    """How it was calibrated, and each rate with its interval and its thresholds."""
    if not model.HasField("detection"):
        return
    about = model.detection
    size = f" of {about.calibrated_height} x {about.calibrated_width}" if about.calibrated_height else ""
    images = f"{about.calibrated_on:,} images{size}" if about.calibrated_on else "images that are not known"
    yield "detection", f"the {about.score} of a map, calibrated on {images}; one false alarm in"
    for rate, lower, upper, threshold, map_threshold in zip(
        about.rates, about.rate_lower, about.rate_upper, about.thresholds, about.map_thresholds, strict=True
    ):
        default = ", by default" if rate == about.default_rate else ""
        found = f"scores above {threshold:.6g}, maps above {map_threshold:.6g}"
        yield f"  {1 / rate:.0f} images", f"{found} (true rate in {lower:.2g} … {upper:.2g}){default}"


def _graph(signature: Signature, data: bytes, imported: bool) -> Iterator[str]:
    graph = read_graph(data)
    kinds = ", ".join(
        f"{count} {name}" for (_, name), count in sorted(graph.operators.items(), key=lambda each: each[0][1])
    )
    invariant = (
        "a row's bits do not depend on its batch" if signature.batch_invariant else "rows may vary with their batch"
    )
    known = "compared only with itself" if imported else f"off by at most {signature.parity_max_abs_error:.1e}"
    yield f"{signature.file}: opset {graph.opset}, {graph.parameters:,} numbers; {kinds}"
    yield from (f"  in   {_tensor(spec)}" for spec in signature.inputs)
    yield from (f"  out  {_tensor(spec)}" for spec in signature.outputs)
    yield f"  {known}; {invariant}"
    if signature.HasField("tiling"):
        tiling = signature.tiling
        bits = "with the bits of the whole" if tiling.exact else "within the tolerance of the whole"
        yield f"  run in tiles of {tiling.tile} beyond that size, halo {tiling.halo}, {bits}"


def _tensor(spec: TensorSpec) -> str:
    sizes = ", ".join(str(size) if size >= 0 else "any" if axis else "batch" for axis, size in enumerate(spec.shape))
    kind = DataType.Name(spec.data_type).removeprefix("DATA_TYPE_").lower()
    return f"{spec.name} {kind} ({sizes})"


def _files(model: Model) -> Iterator[str]:
    rows = [(file.path, f"{file.size_bytes / _KIB:,.0f} KiB", file.sha256) for file in model.files]
    yield from aligned(rows)
