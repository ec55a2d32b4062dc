"""Differences between two versions: facts, weights, and what the graphs answer to the same inputs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnx
from autoencoder.v1.model_pb2 import Model, Signature, Tiling
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from bundle import golden, layout
from bundle.compatibility import check_golden, check_model
from bundle.errors import BundleError
from bundle.golden import Array, Golden
from bundle.graph import check_graph
from bundle.latents import LatentStatistics
from bundle.layout import GOLDEN_FILE, LATENTS_FILE
from export.errors import InputError
from export.gate.parity import outputs
from export.gate.sandbox import CrashError, Sandbox

_FACTS = (
    "family",
    "methods",
    "height",
    "width",
    "channels",
    "sizes",
    "latent_size",
    "latent_shape",
    "downsampling",
    "noise_level",
    "detection",
    "labels",
    "attributes",
    "metrics",
    "provenance",
)

_LEVEL = 0.999


@dataclass(frozen=True)
class Version:
    """A version read from its folder."""

    model: Model
    contents: Mapping[str, bytes]
    golden: Golden
    statistics: LatentStatistics | None

    @classmethod
    def read(cls, folder: Path) -> "Version":
        """Read it.

        Raises:
            InputError: there is no whole version in the folder, or its parts do not fit each other.
        """
        try:
            model = layout.read_model(folder)
            check_model(model)
            contents = layout.read_files(folder, model)
            for signature in model.signatures:
                check_graph(contents[signature.file], signature, imported=model.imported)
            expected = Golden.from_bytes(contents[GOLDEN_FILE])
            check_golden(model, expected)
            statistics = None
            if LATENTS_FILE in contents:
                statistics = LatentStatistics.from_bytes(contents[LATENTS_FILE])
            return cls(model, contents, expected, statistics)
        except BundleError as error:
            raise InputError(str(error)) from error

    def signature(self, name: str) -> Signature | None:
        """By name."""
        return next((each for each in self.model.signatures if each.name == name), None)


def differences(first: Version, second: Version) -> list[str]:
    """A line for each difference; name and version number are not compared."""
    names = sorted({s.name for v in (first, second) for s in v.model.signatures})
    graphs = [line for name in names for line in _graph(name, first, second)]
    return [*_facts(first.model, second.model), *graphs, *_limits(first, second), *_other_files(first, second)]


def _facts(first: Model, second: Model) -> Iterator[str]:
    a, b = (_flat(json_format.MessageToDict(model, preserving_proto_field_name=True)) for model in (first, second))
    for name in sorted(a.keys() | b.keys()):
        if a.get(name) != b.get(name):
            yield f"{name}: {a.get(name, 'none')} -> {b.get(name, 'none')}"


def _flat(fields: Mapping[str, object]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name in _FACTS:
        value = fields.get(name)
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": str(each) for key, each in cast("dict[str, object]", value).items()}
        elif isinstance(value, list):
            flat[name] = ", ".join(map(str, cast("list[object]", value)))
        elif value is not None:
            flat[name] = str(value)
    return flat


def _graph(name: str, first: Version, second: Version) -> Iterator[str]:
    a, b = first.signature(name), second.signature(name)
    if a is None or b is None:
        yield f"{name}: {'added' if a is None else 'removed'}"
        return
    yield from _claims(name, a, b)
    if first.contents[a.file] == second.contents[b.file]:
        return
    yield from (f"{name}: {line}" for line in _weights(first.contents[a.file], second.contents[b.file]))
    if list(a.inputs) != list(b.inputs) or list(a.outputs) != list(b.outputs):
        yield f"{name}: other inputs or outputs"
        return
    yield from _answers(name, a, b, first, second)


def _claims(name: str, a: Signature, b: Signature) -> Iterator[str]:
    """Claims of the versions about their graphs."""
    for claim in ("parity_max_abs_error", "golden_tolerance", "batch_invariant", "batch_buckets"):
        before, after = getattr(a, claim), getattr(b, claim)
        if before != after:
            yield f"{name}: {claim} {_shown(before)} -> {_shown(after)}"
    if a.tiling != b.tiling:
        yield f"{name}: tiling {_shown(a.tiling)} -> {_shown(b.tiling)}"


def _shown(claim: object) -> str:
    if isinstance(claim, Tiling):
        return " ".join(str(claim).split()) or "none"
    return f"{claim:.1e}" if isinstance(claim, float) else str(claim)


def _weights(first: bytes, second: bytes) -> Iterator[str]:
    a, b = _initialisers(first), _initialisers(second)
    for name in sorted(a.keys() ^ b.keys()):
        yield f"weights {name}: {'added' if name in b else 'removed'}"
    for name in sorted(a.keys() & b.keys()):
        if a[name].shape != b[name].shape:
            yield f"weights {name}: {a[name].shape} -> {b[name].shape}"
        elif a[name].tobytes() != b[name].tobytes():
            yield f"weights {name}: differ by up to {golden.max_error(a[name], b[name]):.3g}"


def _initialisers(graph: bytes) -> dict[str, Array]:
    try:
        model = onnx.load_model_from_string(graph)
        return {each.name: np.asarray(numpy_helper.to_array(each)) for each in model.graph.initializer}
    except (DecodeError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"expected an ONNX file with readable weights: {error}") from error


def _answers(name: str, a: Signature, b: Signature, first: Version, second: Version) -> Iterator[str]:
    inputs = [case.inputs for case in first.golden.cases[name]]
    try:
        with Sandbox() as sandbox:
            before = sandbox.run(outputs, first.contents[a.file], inputs)
            after = sandbox.run(outputs, second.contents[b.file], inputs)
    except (BundleError, CrashError) as error:
        yield f"{name}: cannot be run: {error}"
        return
    for spec in a.outputs:
        yield _answer(name, spec.name, [(x[spec.name], y[spec.name]) for x, y in zip(before, after, strict=True)])


def _answer(signature: str, output: str, pairs: Iterable[tuple[Array, Array]]) -> str:
    distances = np.concatenate([np.abs(x.astype(np.float64) - y.astype(np.float64)).ravel() for x, y in pairs])
    return f"{signature}: golden {output} differ by up to {distances.max():.3g}, {distances.mean():.3g} on average"


def _limits(first: Version, second: Version) -> Iterator[str]:
    """Held-out quantiles, which drift is measured against."""
    if first.statistics is None or second.statistics is None:
        return
    both = first.statistics, second.statistics
    errors = (each.reconstruction_error_quantile(_LEVEL) for each in both)
    distances = (each.latent_distance_quantile(_LEVEL) for each in both)
    for name, (a, b) in (("reconstruction error", errors), ("latent distance", distances)):
        if a != b:
            yield f"{_LEVEL:.1%} of held-out images have a {name} below: {a:.4g} -> {b:.4g}"


def _other_files(first: Version, second: Version) -> Iterator[str]:
    graphs = {s.file for v in (first, second) for s in v.model.signatures}
    for path in sorted((first.contents.keys() | second.contents.keys()) - graphs):
        a, b = first.contents.get(path), second.contents.get(path)
        if a != b:
            yield f"{path}: {'added' if a is None else 'removed' if b is None else 'changed'}"
