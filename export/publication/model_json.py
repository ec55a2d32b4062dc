"""Builds model.json, the description of a bundle; no clock, host, path or user in it."""

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from autoencoder.v1.model_pb2 import Model, NoiseLevel, Signature, SizeRange, Tiling

from bundle.errors import quotable
from bundle.latents import LatentStatistics
from bundle.layout import describe_files
from export.gate.parity import Measured, rounded_up
from export.gate.session import runtime_version
from export.graphs.tensor_specs import Facts, served_methods

_TOOLS = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy")


def describe(
    facts: Facts,
    signatures: Sequence[Signature],
    contents: Mapping[str, bytes],
    provenance: Mapping[str, str],
    statistics: LatentStatistics | None = None,
    metrics: Mapping[str, float] = MappingProxyType({}),
    *,
    imported: bool = False,
) -> Model:
    """Everything but name, version and what the gate measured."""
    attributes = [] if statistics is None else [str(name) for name in statistics.attribute_names]
    height, width, channels = facts.image_shape
    described = Model(
        family=facts.family,
        methods=served_methods(
            facts, {each.name: each for each in signatures}, attributes, facts.has_density(statistics is not None)
        ),
        height=height,
        width=width,
        channels=channels,
        latent_size=facts.latent_size,
        signatures=signatures,
        labels=facts.labels,
        attributes=attributes,
        metrics=metrics,
        provenance=provenance,
        files=describe_files(contents),
        imported=imported,
        # Of vectors latent_size says it all, as it always did.
        latent_shape=facts.latent_shape,
        downsampling=facts.downsampling,
    )
    if facts.shapes.free:
        described.sizes.CopyFrom(SizeRange(**asdict(facts.sizes)))
    if facts.noise_level is not None:
        lowest, highest, default = facts.noise_level
        described.noise_level.CopyFrom(NoiseLevel(minimum=lowest, maximum=highest, default=default))
    return described


def with_measurements(
    signature: Signature, measured: Measured, buckets: Sequence[int], tolerance: float, tiling: Tiling | None = None
) -> Signature:
    """The signature with what the gate measured of its graph."""
    known = Signature(
        golden_tolerance=tolerance,
        parity_max_abs_error=rounded_up(measured.max_abs_error),
        batch_invariant=measured.alone_difference == 0,
        batch_buckets=buckets,
        tiling=tiling,
    )
    known.MergeFrom(signature)
    return known


def tool_versions() -> dict[str, str]:
    """Versions of the packages that made the graphs."""
    found = {"python": platform.python_version(), "onnxruntime": runtime_version()}
    return found | {tool: version(tool) for tool in _TOOLS}


def provenance(meta: Mapping[str, Any], weights_sha256: str) -> dict[str, str]:
    """Where a checkpoint's graphs come from: recipe, data, training, weights, tools."""
    data, run = meta.get("data", {}), meta.get("config", {}).get("run", {})
    known = {
        "recipe": None if "module" in meta else meta.get("name"),
        "module": meta.get("module"),
        "arguments": meta.get("arguments"),
        "reference_precision": meta.get("reference_precision"),
        "data": data.get("name"),
        "data_sha256": data.get("sha256"),
        "seed": run.get("seed"),
        "epoch": meta.get("epoch"),
        "step": meta.get("step"),
        "git_revision": meta.get("git_revision"),
        "trained_with_torch": meta.get("tools", {}).get("torch"),
    }
    recorded = {key: quotable(str(value)) for key, value in known.items() if value is not None}
    return recorded | {"weights_sha256": weights_sha256, "precision": "float32"} | tool_versions()


def finite_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """A checkpoint's metrics that are finite numbers."""
    numbers = {name: value for name, value in metrics.items() if type(value) in {int, float} and name.isprintable()}
    # No comparison with NaN holds.
    return {name: float(value) for name, value in numbers.items() if abs(value) <= sys.float_info.max}
