"""model.json: what a bundle says about itself; no clock, host, path or user in it."""

import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from autoencoder.v1.model_pb2 import Model, Signature

from bundle.latents import LatentStatistics, prior
from bundle.layout import describe_files
from export.gate.parity import Measured, rounded_up
from export.graphs.tensor_specs import Facts, batch_buckets, served_methods
from export.runtime import version as runtime_version

_TOOLS = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy")


def describe(
    about: Facts,
    signatures: Sequence[Signature],
    contents: Mapping[str, bytes],
    latents: LatentStatistics | None,
    meta: Mapping[str, Any],
    weights_sha256: str,
) -> Model:
    """Everything but name, version and what the gate measured."""
    attributes = [] if latents is None else [str(name) for name in latents.attribute_names]
    density = latents is not None or (about.family != "denoiser" and prior(about.family) == "normal")
    return Model(
        family=about.family,
        methods=served_methods(about, {each.name: each for each in signatures}, attributes, density),
        height=about.image_shape[0],
        width=about.image_shape[1],
        channels=about.image_shape[2],
        latent_size=about.latent_size,
        signatures=signatures,
        labels=about.labels,
        attributes=attributes,
        metrics=_numbers(meta.get("metrics", {})),
        provenance=_provenance(meta, weights_sha256),
        files=describe_files(contents),
    )


def with_measurements(
    signature: Signature, measured: Measured, image_shape: tuple[int, int, int], tolerance: float
) -> Signature:
    """The signature with what the gate saw of its graph."""
    known = Signature(
        golden_tolerance=tolerance,
        parity_max_abs_error=rounded_up(measured.max_abs_error),
        batch_invariant=measured.alone_difference == 0,
        batch_buckets=batch_buckets(image_shape),
    )
    known.MergeFrom(signature)
    return known


def tool_versions() -> dict[str, str]:
    """Of what made the graphs."""
    found = {"python": platform.python_version(), "onnxruntime": runtime_version()}
    return found | {tool: version(tool) for tool in _TOOLS}


def _provenance(meta: Mapping[str, Any], weights_sha256: str) -> dict[str, str]:
    data, run = meta.get("data", {}), meta.get("config", {}).get("run", {})
    known = {
        "recipe": meta.get("name"),
        "data": data.get("name"),
        "data_sha256": data.get("sha256"),
        "seed": run.get("seed"),
        "epoch": meta.get("epoch"),
        "step": meta.get("step"),
        "git_revision": meta.get("git_revision"),
        "trained_with_torch": meta.get("tools", {}).get("torch"),
    }
    told = {key: str(value) for key, value in known.items() if value is not None}
    return told | {"weights_sha256": weights_sha256, "precision": "float32"} | tool_versions()


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    numbers = {name: float(value) for name, value in metrics.items() if type(value) in {int, float}}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}
