"""A checkpoint to a version in a model repository."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from zipfile import BadZipFile

from autoencoder.v1.model_pb2 import Model, Signature

from bundle.errors import BundleError
from bundle.golden import Golden
from bundle.layout import GOLDEN_FILE, LATENTS_FILE, REPORT_FILE
from export import gate, graphs, interface, report, signatures, vectors
from export.description import describe, with_measurements
from export.errors import ExportError, Failure, GateError, InputError
from export.gate import Subject, Verdict
from export.isolation import Isolation
from export.publish import Place, publish
from export.weights import unfit_weights
from training import checkpoint
from training.checkpoint import Checkpoint
from training.errors import TrainingError


@dataclass(frozen=True)
class Exported:
    """A version that passed and was written."""

    folder: Path
    model: Model
    verdict: Verdict
    seconds: float


def export(source: Path, place: Place, say: Callable[[str], None] = print) -> Exported:
    """Export a checkpoint, or the best one of a run's folder, through the gate; the recipe's name unless one is given.

    Raises:
        InputError: the checkpoint, name, version, repository or key is unusable.
        GateError: a check refused; nothing was written.
        ExportError: the repository could not be written.
    """
    loaded = load(source)
    return export_checkpoint(loaded, weights_sha256(source), place, say)


def export_checkpoint(loaded: Checkpoint, weights: str, place: Place, say: Callable[[str], None]) -> Exported:
    """Export a checkpoint in memory; `weights` is the SHA-256 of its weights file, else as `export`."""
    start = perf_counter()
    place = place.named(str(loaded.meta.get("name", "")))
    place.check()
    say(f"{place.name}: building graphs")
    candidate = assemble(loaded, weights)
    say(f"{place.name}: checking {len(candidate.subject.graphs)} graphs")
    with Isolation() as apart:
        verdict = gate.judge(candidate.subject, candidate.golden, apart)
    check_reproducible(candidate, assemble(loaded, weights))
    described = candidate.with_verdict(verdict)
    contents = candidate.contents | {REPORT_FILE: report.encode(described, verdict, perf_counter() - start)}
    folder = publish(place, contents, lambda number: _named(described, place, number))
    return Exported(folder, _named(described, place, folder.name), verdict, perf_counter() - start)


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
            with_measurements(s, verdict.measured[s.name], shape) for s in self.model.signatures
        )
        return described


def load(source: Path) -> Checkpoint:
    """Read a checkpoint whose weights are all numbers.

    Raises:
        InputError: there is none, or it is damaged.
    """
    try:
        loaded = checkpoint.load(source)
    except (TrainingError, BundleError, BadZipFile) as error:
        raise InputError(str(error)) from error
    if unfit := unfit_weights(loaded.model):
        raise InputError(f"{source}: wanted finite weights, got NaN or infinity in {', '.join(unfit)}: train it anew")
    return loaded


def assemble(loaded: Checkpoint, weights: str) -> Candidate:
    """Build everything that is hashed.

    Raises:
        GateError: a method has no graph with a free batch.
    """
    model = graphs.folded(loaded.model)
    about = signatures.facts(model)
    if about.family not in interface.FAMILIES:
        raise ExportError(f"wanted a family of {sorted(interface.FAMILIES)}, got {about.family!r}")
    described: list[Signature] = []
    built: dict[str, bytes] = {}
    for method in signatures.methods(model):
        described.append(interface.signature(method.name, about))
        built[method.name] = graphs.build(method, described[-1])
    golden = vectors.golden(gate.exact_methods(model), loaded.reference.images, loaded.latents)
    contents = {f"{name}.onnx": graph for name, graph in built.items()} | {GOLDEN_FILE: golden.to_bytes()}
    if loaded.latents is not None:
        contents[LATENTS_FILE] = loaded.latents.to_bytes()
    described_model = describe(about, described, contents, loaded.latents, loaded.meta, weights)
    return Candidate(Subject(model, built, loaded.reference.images), golden, contents, described_model)


def check_reproducible(first: Candidate, second: Candidate) -> None:
    """Two builds of one checkpoint are the same bytes.

    Raises:
        GateError: they are not.
    """
    differing = [name for name in first.contents if first.contents[name] != second.contents.get(name)]
    if differing or first.model != second.model:
        failures = [Failure(name, "", "exported twice, got different bytes") for name in differing or ["model.json"]]
        raise GateError("reproducibility", failures)


def weights_sha256(source: Path) -> str:
    """Of the checkpoint's weights file."""
    return hashlib.sha256((checkpoint.find(source) / checkpoint.WEIGHTS).read_bytes()).hexdigest()


def _named(model: Model, place: Place, version: str) -> Model:
    named = Model(name=place.name, version=version)
    named.MergeFrom(model)
    return named
