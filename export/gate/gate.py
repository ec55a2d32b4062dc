"""The export gate: the checks between a trained network and a bundle, each refusing with what it found.

Here are the checks that need the network; `checks` has the others. What touches onnx's C++ or ONNX Runtime runs in the
sandbox.
"""

import copy
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from autoencoder.v1.model_pb2 import Signature
from torch import nn

from bundle.golden import Array, Golden
from bundle.replay import RowDifference
from export.gate import checks, parity
from export.gate.checks import BATCH_INVARIANCE, GOLDEN_VECTORS, STRUCTURE, Check, CheckedBundle, Finding, crash_refused
from export.gate.inputs import answer, noisy, test_inputs
from export.gate.latency import latencies_ms
from export.gate.parity import Measured
from export.gate.sandbox import Sandbox
from export.gate.structure import ONNX_CHECKER, bound_problems
from export.gate.weights import weight_problems
from export.graphs import methods, tensor_specs
from export.graphs.methods import Method
from training.models.autoencoders import LOG_VARIANCE_BOUNDS

LOG_VARIANCES = "log_variances"
_QUALITY_TOLERANCE = 1e-5


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
    quality: Quality
    tolerances: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of golden vectors; for variants in fewer bits alone, as is the trade-off."""
    tradeoff: Tradeoff | None = None


@dataclass(frozen=True)
class CheckedGraphs:
    """What is checked: a folded network in eval mode, its graphs by signature, held-out images (N, H, W, C) uint8."""

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

    @cached_property
    def exact(self) -> list[tuple[Method, Signature]]:
        """Methods of the network in float64."""
        return exact_methods(self.network)

    @cached_property
    def measured(self) -> dict[str, Measured]:
        """Every graph on every kind of input in every batch size."""
        return self._measurements[0]

    @cached_property
    def latencies_ms(self) -> dict[str, dict[int, float]]:
        """Milliseconds of one run by signature and batch size."""
        return self._measurements[1]

    @cached_property
    def quality(self) -> Quality:
        """Squared error per pixel on the reference images, of the graph and of the float64 network."""
        method, signature = next(each for each in self.exact if each[0].name in {"reconstruct", "denoise"})
        inputs = noisy(self.images) if method.name == "denoise" else self.images
        targets, output = self.images / 255, signature.outputs[0].name
        network = float(np.mean((answer(method, inputs, signature)[output] - targets) ** 2))
        graph = self.graphs[method.name]
        with crash_refused("quality", method.name):
            found = self.sandbox.run(parity.mean_squared_error, graph, inputs, targets, output, self.device)
        return Quality(method.name, found, network)

    def row_difference(self, signature: Signature) -> RowDifference:
        """How far a row alone is from the same row in a batch, over all measured inputs."""
        measured = self.measured[signature.name]
        return RowDifference(measured.alone_difference, measured.alone_excess)

    @cached_property
    def _measurements(self) -> tuple[dict[str, Measured], dict[str, dict[int, float]]]:
        measured: dict[str, Measured] = {}
        latencies: dict[str, dict[int, float]] = {}
        buckets = tensor_specs.batch_buckets(methods.facts(self.model).image_shape)
        for method, signature in self.exact:
            inputs = test_inputs(method, signature, self.images, buckets[-1])
            graph = self.graphs[signature.name]
            with crash_refused("numbers", signature.name):
                measured[signature.name] = self.sandbox.run(parity.measure, graph, inputs, self.device)
                latencies[signature.name] = self.sandbox.run(
                    latencies_ms, graph, inputs[0].inputs, buckets, self.device
                )
        return measured, latencies


def exact_methods(model: nn.Module) -> list[tuple[Method, Signature]]:
    """Methods of the network in float64, with their signatures."""
    double = copy.deepcopy(model).double()
    facts = methods.facts(model)
    return [(method, tensor_specs.signature(method.name, facts)) for method in methods.methods(double)]


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
    passed = checks.run(CHECKS, gate_run)
    return GateResult(passed, gate_run.measured, gate_run.latencies_ms, gate_run.quality)


def _bounds(gate_run: GateRun) -> Iterator[Finding]:
    for signature in gate_run.signatures:
        if any(output.name == LOG_VARIANCES for output in signature.outputs):
            with crash_refused("structure", signature.name):
                graph = gate_run.graphs[signature.name]
                found = gate_run.sandbox.run(bound_problems, graph, LOG_VARIANCES, LOG_VARIANCE_BOUNDS)
            yield Finding(signature.name, "; ".join(found), passed=not found)


def _weights(gate_run: GateRun) -> Iterator[Finding]:
    for name, graph in gate_run.graphs.items():
        for problem in weight_problems(graph, gate_run.model):
            yield Finding(name, problem, passed=False)


def _numbers(gate_run: GateRun) -> Iterator[Finding]:
    for name, measured in gate_run.measured.items():
        for worst in measured.worst:
            where = f"{worst.kind}, batch of {worst.batch}, output {worst.output}"
            off = f"off by {worst.max_abs_error:.3g}, {worst.excess:.3g} times what 1e-5 + 1e-4 |reference| allows"
            yield Finding(name, off, passed=worst.excess <= 1, where=where)


def _quality(gate_run: GateRun) -> Iterator[Finding]:
    quality = gate_run.quality
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
