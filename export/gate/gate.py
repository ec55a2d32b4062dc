"""The export gate: the checks between a trained network and a bundle, each refusing with what it found.

Here are the checks that need the network; `checks` has the others. What touches onnx's C++ or ONNX Runtime runs in the
sandbox.
"""

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import prod

import numpy as np
from autoencoder.v1.model_pb2 import Signature
from autoencoder.v1.shapes import Size
from torch import nn

from bundle.errors import quotable
from bundle.golden import Array, Arrays, Golden
from bundle.replay import RowDifference
from export.errors import Failure, GateError
from export.gate import checks, deviation, parity
from export.gate.checks import BATCH_INVARIANCE, GOLDEN_VECTORS, STRUCTURE, Check, CheckedBundle, Finding, crash_refused
from export.gate.images import pixels, resized
from export.gate.inputs import answer, real, test_inputs
from export.gate.latency import latencies_ms
from export.gate.parity import Measured
from export.gate.sandbox import Sandbox
from export.gate.structure import ONNX_CHECKER, bound_problems
from export.gate.tiling import tiles
from export.gate.tiling.tiles import TILES, Tiled
from export.gate.traces import made_of_weights
from export.gate.weights import weight_problems
from export.graphs import methods, tensor_specs
from export.graphs.methods import Method
from export.graphs.tensor_specs import TESTED_BATCHES, Facts, batch_buckets
from training.models.autoencoders import LOG_VARIANCE_BOUNDS

LOG_VARIANCES = "log_variances"
_QUALITY_TOLERANCE = 1e-5
_QUALITY_PIXELS = 2**20
_QUALITY_IMAGES = 16
# Of what a network chooses: such rows are left out of the comparison.
_MOST_TIED = 0.01


@dataclass(frozen=True)
class Quality:
    """Mean squared error per pixel on the reference images, of the graph and of the float64 network."""

    signature: str
    graph: float
    network: float

    @property
    def relative_difference(self) -> float:
        """Between the two, relative to the network's."""
        return abs(self.graph - self.network) / max(self.network, 1e-30)


@dataclass(frozen=True)
class Tradeoff:
    """Quality and speed of a variant against float32 on held-out images; None where the model has no such graph."""

    psnr_drop_db: float
    rank_correlation: float | None
    class_agreement: float | None
    speed_up: float


@dataclass(frozen=True)
class GateResult:
    """Measurements of a bundle that passed, by signature, and the names of the checks that ran."""

    passed: tuple[str, ...]
    measured: Mapping[str, Measured]
    latencies_ms: Mapping[str, Mapping[int, float]]
    quality: Quality | None
    """None where no graph gives images for images."""
    tolerances: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of golden vectors; for variants in fewer bits alone, as is the trade-off."""
    tradeoff: Tradeoff | None = None
    tiled: Mapping[str, Tiled] = field(default_factory=dict[str, Tiled])
    """Of graphs of free sizes alone."""


@dataclass(frozen=True)
class CheckedGraphs:
    """What is checked: a folded network in eval mode, its graphs by signature, held-out images (N, H, W, C)."""

    model: nn.Module
    graphs: Mapping[str, bytes]
    images: Array

    @property
    def signatures(self) -> list[Signature]:
        """Of the graphs, in alphabetical order."""
        facts = methods.facts(self.model)
        return [tensor_specs.signature(name, facts) for name in sorted(self.graphs)]


@dataclass(kw_only=True)
class GateRun(CheckedBundle):
    """A network's graphs on their way through the gate; measurements are made once, when a check first asks."""

    network: nn.Module
    """Whose float64 answers the graphs are compared with."""
    model: nn.Module
    """Whose weights the graphs hold: the network itself, or one in fewer bits."""
    images: Array
    max_run_bytes: int = sys.maxsize
    """The network is the user's own, and this machine has trained it."""
    is_variant: bool = False
    """In fewer bits than the network."""
    kept: frozenset[str] = frozenset()
    """Graphs of a variant that are the network's own."""
    _timed: dict[str, Arrays] = field(default_factory=dict[str, Arrays], init=False, repr=False)
    """Inputs of graphs of a fixed size, kept from the measurement of their numbers."""
    deviations: dict[str, str] = field(default_factory=dict[str, str], init=False, repr=False)
    """Where graphs that leave the tolerance do so first; measured with their numbers."""

    @cached_property
    def exact(self) -> list[tuple[Method, Signature]]:
        """Methods of the network in float64, of those graphs that there are."""
        return [each for each in exact_methods(self.network) if each[1].name in self.graphs]

    @property
    def about(self) -> Facts:
        """Facts of the network."""
        return methods.facts(self.model)

    @cached_property
    def measured(self) -> dict[str, Measured]:
        """Every graph on every kind of input in every batch size."""
        return {signature.name: self._measure(method, signature) for method, signature in self.exact}

    @cached_property
    def latencies_ms(self) -> dict[str, dict[int, float]]:
        """Milliseconds of one run by signature and batch size; of free sizes, of tiles."""
        latencies: dict[str, dict[int, float]] = {}
        for name, given in (self.tiled or self.measured).items():
            if isinstance(given, Tiled):
                inputs, buckets = given.timed, given.buckets
            else:
                inputs, buckets = self._timed[name], batch_buckets(self.about.image_shape)
            with crash_refused("numbers", name):
                latencies[name] = self.sandbox.run(latencies_ms, self.graphs[name], inputs, buckets, self.device)
        return latencies

    @property
    def tiled(self) -> Mapping[str, Tiled]:
        """How each graph may be cut, where sizes are free."""
        # Of the kind that pyright accepts for a `TiledBundle`.
        return self._tiled

    @cached_property
    def _tiled(self) -> dict[str, Tiled]:
        tiled: dict[str, Tiled] = {}
        for method, signature in self.exact if self.about.shapes.free else ():
            with crash_refused("tiles", signature.name):
                graph = self.graphs[signature.name]
                tiled[signature.name] = tiles.tile(
                    self.about,
                    signature,
                    graph,
                    partial(self._picture, method, signature),
                    self.sandbox,
                    self.device,
                    is_variant=self.is_variant,
                )
        return tiled

    @cached_property
    def quality(self) -> Quality | None:
        """Squared error per pixel on the reference images, of the graph and of the float64 network."""
        judged = [each for each in self.exact if each[0].name in {"reconstruct", "denoise"}]
        if not judged:
            return None
        method, signature = judged[0]
        images = resized(self.images, self.about.shapes.padded(*self.images.shape[1:3]))
        images = images[: max(_QUALITY_IMAGES, _QUALITY_PIXELS // prod(images.shape[1:3]))]
        inputs = real(method, signature, images)
        targets, output = pixels(images, np.float64), signature.outputs[0].name
        network = float(np.mean((answer(method, inputs[0], signature, inputs[1:])[output] - targets) ** 2))
        graph = self.graphs[method.name]
        with crash_refused("quality", method.name):
            found = self.sandbox.run(parity.mean_squared_error, graph, inputs, targets, output, self.device)
        return Quality(method.name, found, network)

    def row_difference(self, signature: Signature) -> RowDifference:
        """How far a row alone is from the same row in a batch, over all measured inputs."""
        measured = self.measured[signature.name]
        return RowDifference(measured.alone_difference, measured.alone_excess)

    def _picture(self, method: Method, signature: Signature, size: Size) -> list[Array]:
        return real(method, signature, resized(self.images[:1], size))

    def _measure(self, method: Method, signature: Signature) -> Measured:
        largest = TESTED_BATCHES[-1] if self.about.shapes.free else batch_buckets(self.about.image_shape)[-1]
        try:
            inputs = test_inputs(method, signature, self.images, largest)
        except RuntimeError as error:
            reason = f"the network refuses an input that it should take: {quotable(str(error))}"
            advice = "state the `multiple` and `minimum` of its sizes" if self.about.shapes.free else "see its forward"
            raise GateError("numbers", [Failure(signature.name, "", f"{reason}; {advice}")]) from error
        self._timed[signature.name] = inputs[0].inputs
        graph = self.graphs[signature.name]
        with crash_refused("numbers", signature.name):
            measured = self.sandbox.run(parity.measure, graph, inputs, self.device)
        worst = max(measured.worst, key=lambda each: each.excess)
        if worst.excess > 1 and self.network is self.model:
            tried = next(each for each in inputs if each.kind == worst.kind)
            self.deviations[signature.name] = deviation.explain(method, signature, graph, tried, self.sandbox)
        return measured


def exact_methods(model: nn.Module) -> list[tuple[Method, Signature]]:
    """Methods of the network in float64, unless it makes the weaker claim of float32, with their signatures."""
    copied = copy.deepcopy(model)
    exact = copied if getattr(model, "reference_precision", "") == "float32" else copied.double()
    facts = methods.facts(model)
    return [(method, tensor_specs.signature(method.name, facts)) for method in methods.methods(exact)]


def run_checks(checked: CheckedGraphs, golden: Golden, sandbox: Sandbox) -> GateResult:
    """Run all checks but that of reproducibility, which is `exporter`'s.

    Raises:
        GateError: a check refused.
    """
    gate_run = GateRun(
        signatures=checked.signatures,
        graphs=checked.graphs,
        golden=golden,
        sandbox=sandbox,
        network=checked.model,
        model=checked.model,
        images=checked.images,
    )
    passed = checks.run(FREE_SIZE_CHECKS if gate_run.about.shapes.free else CHECKS, gate_run)
    return GateResult(passed, gate_run.measured, gate_run.latencies_ms, gate_run.quality, tiled=gate_run.tiled)


def _bounds(gate_run: GateRun) -> Iterator[Finding]:
    # A module of the user's may have narrower bounds of its own.
    narrower = gate_run.about.family == "module"
    bounds: tuple[float, float] = getattr(gate_run.model, "log_variance_bounds", LOG_VARIANCE_BOUNDS)
    for signature in gate_run.signatures:
        if any(output.name == LOG_VARIANCES for output in signature.outputs):
            with crash_refused("structure", signature.name):
                graph = gate_run.graphs[signature.name]
                found = gate_run.sandbox.run(bound_problems, graph, LOG_VARIANCES, bounds, narrower=narrower)
            yield Finding(signature.name, "; ".join(found), passed=not found)


def _weights(gate_run: GateRun) -> Iterator[Finding]:
    for method, signature in gate_run.exact:
        computed = partial(made_of_weights, method, signature)
        model = gate_run.network if signature.name in gate_run.kept else gate_run.model
        for problem in weight_problems(gate_run.graphs[signature.name], model, computed):
            yield Finding(signature.name, problem, passed=False)


def _numbers(gate_run: GateRun) -> Iterator[Finding]:
    for name, measured in gate_run.measured.items():
        for worst in measured.worst:
            where = f"{worst.kind}, batch of {worst.batch}, output {worst.output}"
            off = f"off by {worst.max_abs_error:.3g}, {worst.excess:.3g} times what 1e-5 + 1e-4 |reference| allows"
            yield Finding(name, off, passed=worst.excess <= 1, where=where)
        if measured.tied > _MOST_TIED * measured.choices:
            tied = f"{measured.tied} of {measured.choices} choices of an argmin or argmax are nearly tied"
            yield Finding(name, f"{tied}: expected at most {_MOST_TIED:.0%}", passed=False)
        if name in gate_run.deviations:
            yield Finding(name, gate_run.deviations[name], passed=False)


def _quality(gate_run: GateRun) -> Iterator[Finding]:
    quality = gate_run.quality
    if quality is None:
        return
    seen = f"squared error per pixel {quality.graph:.9g}, the network's is {quality.network:.9g}"
    passed = quality.relative_difference <= _QUALITY_TOLERANCE
    yield Finding(quality.signature, seen, passed=passed, where="reference images")


BOUNDS = Check("structure", _bounds)
"""Log-variances are clipped to the network's bounds last of all."""
WEIGHTS = Check("weights", _weights)
"""Every number in the graphs is the checkpoint's; outputs cannot show all of them."""
NUMBERS = Check("numbers", _numbers)
"""|onnxruntime - float64 network| within the tolerance, on every kind of input in every batch size."""
QUALITY = Check("quality", _quality)
"""Squared error per pixel on the reference images: the graph's within 1e-5 of the network's, relative."""
CHECKS = (STRUCTURE, ONNX_CHECKER, BOUNDS, WEIGHTS, NUMBERS, BATCH_INVARIANCE, QUALITY, GOLDEN_VECTORS)
FREE_SIZE_CHECKS: Sequence[Check[GateRun]] = (*CHECKS, TILES)
