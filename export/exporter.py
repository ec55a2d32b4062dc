"""A checkpoint to a version in a model repository."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, cast

from autoencoder.v1.model_pb2 import Model, Signature

from bundle.golden import Golden
from bundle.latents import LatentStatistics
from bundle.layout import GOLDEN_FILE, LATENTS_FILE, REPORT_FILE, describe_files
from export.checkpoint import load
from export.errors import Failure, GateError
from export.gate import gate, quantized, report
from export.gate import golden as vectors
from export.gate.gate import Subject, Verdict
from export.gate.sandbox import Isolation
from export.graphs import build, methods, tensor_specs
from export.graphs.quantization import Precision, half, quantised, variant_facts
from export.publication.model_json import describe, with_measurements
from export.publication.publish import Place, publish
from export.runtime import Device
from training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Exported:
    """A version that passed and was written."""

    folder: Path
    model: Model
    verdict: Verdict
    seconds: float


@dataclass(frozen=True)
class Candidate:
    """A bundle before the gate: hashed files by name, and their description."""

    subject: Subject
    golden: Golden
    contents: dict[str, bytes]
    model: Model

    def with_verdict(self, verdict: Verdict) -> Model:
        """The description with what the gate measured."""
        described = Model()
        described.CopyFrom(self.model)
        shape = (self.model.height, self.model.width, self.model.channels)
        del described.signatures[:]
        described.signatures.extend(
            with_measurements(s, verdict.measured[s.name], shape, verdict.tolerances.get(s.name, 0.0))
            for s in self.model.signatures
        )
        return described


def export(
    source: Path,
    place: Place,
    precision: Precision = "float32",
    device: Device = "cpu",
    say: Callable[[str], None] = print,
) -> Exported:
    """Export a checkpoint, or the best one of a run's folder, through the gate; the recipe's name unless one is given.

    Raises:
        InputError: the checkpoint, name, version, repository or key is unusable.
        GateError: a check refused; nothing was written.
        ExportError: the repository could not be written.
    """
    start = perf_counter()
    found = load(source)
    place = place.named(str(found.checkpoint.meta.get("name", "")))
    place.check()
    say(f"{place.name}: building and checking the graphs of {source}")
    with Isolation() as apart:
        candidate, verdict = passed(found.checkpoint, found.weights_sha256, precision, device, apart)
    return write(candidate, verdict, place, perf_counter() - start)


def passed(
    loaded: Checkpoint, weights: str, precision: Precision, device: Device, apart: Isolation
) -> tuple[Candidate, Verdict]:
    """Build a bundle, pass it through its gate, build it again in another process; `weights`: SHA-256 of their file.

    Raises:
        GateError: a check refused.
    """
    # On another core, while this one judges.
    with rebuilding(loaded, weights, precision) as again:
        baseline = assemble(loaded, weights)
        if precision == "float32":
            candidate, verdict = baseline, gate.judge(baseline.subject, baseline.golden, apart)
        else:
            candidate = in_fewer_bits(baseline, precision, loaded.latents, apart)
            verdict = quantized.judge(candidate.subject, baseline.subject, baseline.golden, apart, device)
        check_reproducible(candidate, again())
    return candidate, verdict


@contextmanager
def rebuilding(loaded: Checkpoint, weights: str, precision: Precision) -> Generator[Callable[[], Candidate]]:
    """Begin to build the same bundle in a new process that iterates over sets in another order."""
    # Folded: a network with parametrisations cannot be sent.
    sent = replace(loaded, model=cast("Any", build.folded(loaded.model)))
    with Isolation(another_order=True) as elsewhere:
        answer = elsewhere.begin(rebuilt, sent, weights, precision)

        def again() -> Candidate:
            with gate.crash_refused("reproducibility", "model.json"):
                return answer()

        yield again


def rebuilt(loaded: Checkpoint, weights: str, precision: Precision) -> Candidate:
    """Build a bundle, without its gate."""
    baseline = assemble(loaded, weights)
    if precision == "float32":
        return baseline
    with Isolation() as apart:
        return in_fewer_bits(baseline, precision, loaded.latents, apart)


def write(candidate: Candidate, verdict: Verdict, place: Place, seconds: float) -> Exported:
    """Publish what has passed."""
    described = candidate.with_verdict(verdict)
    contents = candidate.contents | {REPORT_FILE: report.encode(described, verdict, seconds)}
    folder = publish(place, contents, lambda number: _named(described, place, number))
    return Exported(folder, _named(described, place, folder.name), verdict, seconds)


def assemble(loaded: Checkpoint, weights: str) -> Candidate:
    """Build everything that is hashed.

    Raises:
        GateError: a method has no graph with a free batch.
    """
    model = build.folded(loaded.model)
    about = methods.facts(model)
    described: list[Signature] = []
    built: dict[str, bytes] = {}
    for method in methods.methods(model):
        described.append(tensor_specs.signature(method.name, about))
        built[method.name] = build.build(method, described[-1])
    golden = vectors.golden(gate.exact_methods(model), loaded.reference.images, loaded.latents)
    contents = {f"{name}.onnx": graph for name, graph in built.items()} | {GOLDEN_FILE: golden.to_bytes()}
    if loaded.latents is not None:
        contents[LATENTS_FILE] = loaded.latents.to_bytes()
    described_model = describe(about, described, contents, loaded.latents, loaded.meta, weights)
    return Candidate(Subject(model, built, loaded.reference.images), golden, contents, described_model)


def in_fewer_bits(
    baseline: Candidate, precision: Precision, latents: LatentStatistics | None, apart: Isolation
) -> Candidate:
    """The same model in float16 or int8.

    Raises:
        GateError: the quantiser refuses a graph.
    """
    model, images = baseline.subject.model, baseline.subject.images
    if precision == "float16":
        model, built = half(model)
    else:
        built = {}
        for method in methods.methods(model):
            inputs = quantized.calibration(method, images[: len(images) // 2], latents)
            with gate.crash_refused("structure", method.name):
                built[method.name] = apart.run(quantised, baseline.subject.graphs[method.name], inputs)
    contents = baseline.contents | {f"{name}.onnx": graph for name, graph in built.items()}
    described = Model()
    described.CopyFrom(baseline.model)
    described.provenance.update(variant_facts(precision))
    del described.files[:]
    described.files.extend(describe_files(contents))
    return Candidate(Subject(model, built, images), baseline.golden, contents, described)


def check_reproducible(first: Candidate, second: Candidate) -> None:
    """Two builds of one checkpoint are the same bytes.

    Raises:
        GateError: they are not.
    """
    differing = [name for name in first.contents if first.contents[name] != second.contents.get(name)]
    if differing or first.model != second.model:
        failures = [Failure(name, "", "exported twice, got different bytes") for name in differing or ["model.json"]]
        raise GateError("reproducibility", failures)


def _named(model: Model, place: Place, version: str) -> Model:
    named = Model(name=place.name, version=version)
    named.MergeFrom(model)
    return named
