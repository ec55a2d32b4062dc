"""The gate: seven checks between a trained network and a bundle, each refusing with what it found.

Everything that touches onnx's C++ or the runtime happens in a process apart.
"""

import copy
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from autoencoder.v1.model_pb2 import Signature
from torch import nn

from bundle.errors import BundleError
from bundle.golden import Golden
from export.errors import Failure, GateError
from export.gate import parity
from export.gate.inputs import Array, answer, noisy, trials
from export.gate.latency import latencies_ms
from export.gate.parity import Measured
from export.gate.sandbox import CrashError, Isolation
from export.gate.selftest import golden_problems
from export.gate.structure import bound_problems, form_problems
from export.gate.weights import weight_problems
from export.graphs import methods as signatures
from export.graphs import tensor_specs
from export.graphs.methods import Method
from export.runtime import Device
from training.models.autoencoders import LOG_VARIANCE_BOUNDS

CHECKS = ("structure", "weights", "numbers", "batch invariance", "quality", "golden vectors", "reproducibility")
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
        """Of the two."""
        return abs(self.graph - self.network) / max(self.network, 1e-30)


@dataclass(frozen=True)
class Payoff:
    """A variant against float32 on held-out images; None where the model has no such graph."""

    psnr_drop_db: float
    rank_correlation: float | None
    class_agreement: float | None
    speed_up: float


@dataclass(frozen=True)
class Verdict:
    """What a bundle that passed is known to do, by signature; variants in fewer bits have tolerances and a payoff."""

    measured: Mapping[str, Measured]
    latencies_ms: Mapping[str, Mapping[int, float]]
    quality: Quality
    tolerances: Mapping[str, float] = field(default_factory=dict[str, float])
    payoff: Payoff | None = None


@dataclass(frozen=True)
class Subject:
    """What is judged: a folded network in eval mode, its graphs by signature, held-out images (N, H, W, C) uint8."""

    model: nn.Module
    graphs: Mapping[str, bytes]
    images: Array

    @property
    def signatures(self) -> list[Signature]:
        """Of the graphs."""
        about = signatures.facts(self.model)
        return [tensor_specs.signature(name, about) for name in sorted(self.graphs)]


def exact_methods(model: nn.Module) -> list[tuple[Method, Signature]]:
    """Methods of the network in float64, with their signatures."""
    double = copy.deepcopy(model).double()
    about = signatures.facts(model)
    return [(method, tensor_specs.signature(method.name, about)) for method in signatures.methods(double)]


def judge(subject: Subject, golden: Golden, apart: Isolation) -> Verdict:
    """Pass all checks but that of reproducibility, which is `exporter`'s.

    Raises:
        GateError: a check refused.
    """
    check_structure(subject, apart)
    check_weights(subject)
    exact = exact_methods(subject.model)
    measured, latencies = measure(subject, exact, apart)
    check_numbers(measured)
    check_invariance(measured)
    quality = measured_quality(subject, exact, apart)
    check_quality(quality)
    check_golden(subject.graphs, golden, apart)
    return Verdict(measured, latencies, quality)


def check_structure(subject: Subject, apart: Isolation) -> None:
    """Form of the graphs: what `structure` and `bundle.graph` say; that log-variances are bounded as the network's."""
    failures: list[Failure] = []
    for signature in subject.signatures:
        graph = subject.graphs[signature.name]
        with crash_refused("structure", signature.name):
            found = apart.run(form_problems, graph, signature)
            if not found and any(output.name == LOG_VARIANCES for output in signature.outputs):
                found = apart.run(bound_problems, graph, LOG_VARIANCES, LOG_VARIANCE_BOUNDS)
        failures += [Failure(signature.name, "", problem) for problem in found]
    refuse("structure", failures)


def check_weights(subject: Subject) -> None:
    """Every number in the graphs is the checkpoint's."""
    refuse(
        "weights",
        [
            Failure(name, "", found)
            for name, graph in subject.graphs.items()
            for found in weight_problems(graph, subject.model)
        ],
    )


def check_numbers(measured: Mapping[str, Measured]) -> None:
    """|onnxruntime - float64 network| within the tolerance, on every kind of input in every batch size."""
    refuse(
        "numbers",
        [
            Failure(
                name,
                f"{worst.kind}, batch of {worst.batch}, output {worst.output}",
                f"off by {worst.max_abs_error:.3g}, {worst.excess:.3g} times what 1e-5 + 1e-4 |reference| allows",
            )
            for name, each in measured.items()
            for worst in each.worst
            if not worst.excess <= 1
        ],
    )


def check_invariance(measured: Mapping[str, Measured]) -> None:
    """A row alone and in company within the tolerance of each other."""
    refuse(
        "batch invariance",
        [
            Failure(name, "a row alone against the row in a batch", f"off by {each.alone_difference:.3g}")
            for name, each in measured.items()
            if not each.alone_excess <= 1
        ],
    )


def measured_quality(
    subject: Subject, exact: Sequence[tuple[Method, Signature]], apart: Isolation, device: Device = "cpu"
) -> Quality:
    """Squared error per pixel on the reference images, of the graph and of the float64 network."""
    method, signature = next(each for each in exact if each[0].name in {"reconstruct", "denoise"})
    inputs = noisy(subject.images) if method.name == "denoise" else subject.images
    targets, output = subject.images / 255, signature.outputs[0].name
    network = float(np.mean((answer(method, inputs, signature)[output] - targets) ** 2))
    with crash_refused("quality", method.name):
        graph = apart.run(parity.mean_squared_error, subject.graphs[method.name], inputs, targets, output, device)
    return Quality(method.name, graph, network)


def check_quality(quality: Quality) -> None:
    """The two within 1e-5 of each other, relative."""
    if not quality.relative_difference <= _QUALITY_TOLERANCE:
        detail = f"squared error per pixel {quality.graph:.9g}, the network's is {quality.network:.9g}"
        raise GateError("quality", [Failure(quality.signature, "reference images", detail)])


def check_golden(graphs: Mapping[str, bytes], golden: Golden, apart: Isolation) -> None:
    """The test that a server will make when it loads the bundle."""
    failures: list[Failure] = []
    for name, graph in graphs.items():
        with crash_refused("golden vectors", name):
            found = apart.run(golden_problems, graph, golden.of(name))
        failures += [Failure(name, "golden vectors", problem) for problem in found]
    refuse("golden vectors", failures)


def measure(
    subject: Subject, exact: Iterable[tuple[Method, Signature]], apart: Isolation, device: Device = "cpu"
) -> tuple[dict[str, Measured], dict[str, dict[int, float]]]:
    """Every graph on every kind of input, and how long it takes."""
    measured: dict[str, Measured] = {}
    latencies: dict[str, dict[int, float]] = {}
    buckets = tensor_specs.batch_buckets(signatures.facts(subject.model).image_shape)
    for method, signature in exact:
        tried = trials(method, signature, subject.images, buckets[-1])
        graph = subject.graphs[signature.name]
        with crash_refused("numbers", signature.name):
            measured[signature.name] = apart.run(parity.measure, graph, tried, device)
            latencies[signature.name] = apart.run(latencies_ms, graph, tried[0].inputs, buckets, device)
    return measured, latencies


def refuse(check: str, failures: Sequence[Failure]) -> None:
    """Raise if there is a failure."""
    if failures:
        raise GateError(check, failures)


@contextmanager
def crash_refused(check: str, signature: str) -> Generator[None]:
    """A graph that the runtime refuses, or that kills it, fails the check."""
    try:
        yield
    except (CrashError, BundleError) as error:
        raise GateError(check, [Failure(signature, "", str(error))]) from error
