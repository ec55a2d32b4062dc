"""Exports a checkpoint to a version in a model repository, through the gate."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, cast

from autoencoder.v1.model_pb2 import Detection, Model, Signature
from torch import nn

from bundle.compatibility import check_golden, check_model
from bundle.detection import calibrate
from bundle.errors import BundleError
from bundle.golden import Golden
from bundle.latents import LatentStatistics
from bundle.layout import GOLDEN_FILE, LATENTS_FILE, MODEL_FILE, REPORT_FILE, describe_files
from bundle.runtime_options import BFLOAT16, Device, lacks_bfloat16
from export.checkpoint import load
from export.errors import InputError
from export.gate import checks, gate, quantized, report
from export.gate.checks import Check, Finding, crash_refused
from export.gate.gate import CheckedGraphs, GateResult
from export.gate.golden import golden_vectors
from export.gate.sandbox import Sandbox
from export.gate.session import missing
from export.graphs import build, methods, quantization, tensor_specs
from export.graphs.methods import Detect
from export.graphs.quantization import Precision, half, quantised, variant_facts
from export.publication.model_json import describe, finite_metrics, provenance, with_measurements
from export.publication.publish import Place, publish
from training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Exported:
    """A version that passed the gate and was written."""

    folder: Path
    model: Model
    result: GateResult
    seconds: float


@dataclass(frozen=True)
class Draft:
    """A bundle before the gate: hashed files by name, and their description."""

    checked: CheckedGraphs
    golden: Golden
    contents: dict[str, bytes]
    model: Model

    def with_result(self, result: GateResult) -> Model:
        """The description with what the gate measured."""
        described = Model()
        described.CopyFrom(self.model)
        del described.signatures[:]
        for signature in self.model.signatures:
            name, tiled = signature.name, result.tiled.get(signature.name)
            buckets, tolerance = list(result.latencies_ms[name]), result.tolerances.get(name, 0.0)
            tiling = None if tiled is None else tiled.tiling
            described.signatures.append(with_measurements(signature, result.measured[name], buckets, tolerance, tiling))
            if tiled is not None and tiled.untileable:
                described.provenance[f"untileable_{name}"] = tiled.untileable
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
        InputError: the checkpoint, name, version, repository or key is unusable, a model that detects in fewer bits, or
            bfloat16 without a processor and a provider for it.
        GateError: a check refused; nothing was written.
        ExportError: the repository could not be written.
    """
    start = perf_counter()
    found = load(source)
    if precision != "float32" and found.checkpoint.held_out_scores is not None:
        raise InputError(
            f"expected --precision float32 for a model that detects, got {precision}: its thresholds are calibrated on "
            "float32 scores"
        )
    if precision == BFLOAT16:
        _require_bfloat16(device)
    place = place.named(str(found.checkpoint.meta.get("name", "")))
    place.check()
    say(f"{place.name}: building and checking the graphs of {source}")
    with Sandbox() as sandbox:
        draft, result = build_and_check(found.checkpoint, found.weights_sha256, precision, device, sandbox)
    return write(draft, result, place, perf_counter() - start)


def build_and_check(
    loaded: Checkpoint, weights: str, precision: Precision, device: Device, sandbox: Sandbox
) -> tuple[Draft, GateResult]:
    """Build a bundle, run its checks, build it again in another process; `weights`: SHA-256 of their file.

    Raises:
        GateError: a check refused.
    """
    # On another core, while the checks run on this one.
    with rebuilding(loaded, weights, precision) as again:
        baseline = assemble(loaded, weights)
        if precision == "float32":
            draft, result = baseline, gate.run_checks(baseline.checked, baseline.golden, sandbox)
        else:
            draft = in_fewer_bits(baseline, precision, loaded.latents, sandbox)
            result = quantized.run_checks(draft.checked, baseline.checked, baseline.golden, sandbox, device, precision)
        last = check_reproducible(draft, again())
    checks.run((DESCRIPTION,), (draft.with_result(result), draft.golden))
    return draft, replace(result, passed=(*result.passed, *last))


def _require_bfloat16(device: Device) -> None:
    problem = lacks_bfloat16() or missing("openvino-bfloat16")
    if device == "cuda":
        problem = "expected --device cpu or openvino, got cuda: OpenVINO runs it on the processor"
    if problem is not None:
        raise InputError(f"--precision {BFLOAT16}: {problem}")


@contextmanager
def rebuilding(loaded: Checkpoint, weights: str, precision: Precision) -> Generator[Callable[[], Draft]]:
    """Begin to build the same bundle in a new process that iterates over sets in another order."""
    # Folded: a network with parametrisations cannot be sent.
    sent = replace(loaded, model=cast("Any", build.folded(loaded.model)))
    with Sandbox(another_order=True) as elsewhere:
        answer = elsewhere.begin(rebuilt, sent, weights, precision)

        def again() -> Draft:
            with crash_refused("reproducibility", "model.json"):
                return answer()

        yield again


def rebuilt(loaded: Checkpoint, weights: str, precision: Precision) -> Draft:
    """Build a bundle, without its gate."""
    baseline = assemble(loaded, weights)
    if precision == "float32":
        return baseline
    with Sandbox() as sandbox:
        return in_fewer_bits(baseline, precision, loaded.latents, sandbox)


def write(draft: Draft, result: GateResult, place: Place, seconds: float) -> Exported:
    """Publish a draft that has passed."""
    described = draft.with_result(result)
    contents = draft.contents | {REPORT_FILE: report.encode(described, result, seconds)}
    folder = publish(place, contents, partial(place.name_model, described))
    return Exported(folder, place.name_model(described, folder.name), result, seconds)


def assemble(loaded: Checkpoint, weights: str) -> Draft:
    """Build everything that is hashed.

    Raises:
        GateError: a method has no graph with a free batch.
        InputError: too few images were held out to calibrate detection on.
    """
    model = build.folded(loaded.model)
    facts = methods.facts(model)
    described: list[Signature] = []
    built: dict[str, bytes] = {}
    for method in methods.methods(model):
        described.append(tensor_specs.signature(method.name, facts))
        built[method.name] = build.build(method, described[-1])
    golden = golden_vectors(gate.exact_methods(model), loaded.reference.images, loaded.latents)
    contents = {f"{name}.onnx": graph for name, graph in built.items()} | {GOLDEN_FILE: golden.to_bytes()}
    if loaded.latents is not None:
        contents[LATENTS_FILE] = loaded.latents.to_bytes()
    about = provenance(loaded.meta, weights)
    metrics = finite_metrics(loaded.meta.get("metrics", {}))
    detection = _calibrated(model, loaded)
    description = describe(facts, described, contents, about, loaded.latents, metrics)
    if detection is not None:
        description.detection.CopyFrom(detection)
    if "log_weights" in built:
        description.likelihood.CopyFrom(methods.likelihood(model))
    return Draft(CheckedGraphs(model, built, loaded.reference.images), golden, contents, description)


def _calibrated(model: nn.Module, loaded: Checkpoint) -> Detection | None:
    """The thresholds of a network that detects."""
    detect = next((each for each in methods.methods(model) if isinstance(each, Detect)), None)
    if detect is None or loaded.held_out_scores is None:
        return None
    try:
        return calibrate(loaded.held_out_scores, detect.score)
    except BundleError as error:
        raise InputError(str(error)) from error


def in_fewer_bits(baseline: Draft, precision: Precision, latents: LatentStatistics | None, sandbox: Sandbox) -> Draft:
    """The same model in float16, bfloat16 or int8.

    Raises:
        GateError: the quantiser refuses a graph.
    """
    model, images = baseline.checked.model, baseline.checked.images
    if precision == "float16":
        model, built = half(model)
    elif precision == BFLOAT16:
        built = {name: graph for name, graph in baseline.checked.graphs.items() if name not in quantization.LEFT_OUT}
    else:
        built = {}
        for method in quantization.in_fewer_bits(model):
            inputs = quantized.calibration(method, images[: len(images) // 2], latents)
            with crash_refused("structure", method.name):
                built[method.name] = sandbox.run(quantised, baseline.checked.graphs[method.name], inputs)
    left_out = quantization.LEFT_OUT
    built |= {name: graph for name, graph in baseline.checked.graphs.items() if name in quantization.KEPT}
    golden = replace(
        baseline.golden, cases={name: cases for name, cases in baseline.golden.cases.items() if name not in left_out}
    )
    contents = baseline.contents | {f"{name}.onnx": graph for name, graph in built.items()}
    contents = {file: data for file, data in contents.items() if file.removesuffix(".onnx") not in left_out}
    contents[GOLDEN_FILE] = golden.to_bytes()
    described = _without_likelihood(baseline.model)
    described.provenance.update(variant_facts(precision))
    del described.files[:]
    described.files.extend(describe_files(contents))
    return Draft(CheckedGraphs(model, built, images), golden, contents, described)


def _without_likelihood(model: Model) -> Model:
    """The description of a model that serves no Score."""
    found = Model()
    found.CopyFrom(model)
    found.ClearField("likelihood")
    del found.methods[:]
    found.methods.extend(name for name in model.methods if name != "Score")
    del found.signatures[:]
    found.signatures.extend(each for each in model.signatures if each.name not in quantization.LEFT_OUT)
    return found


def check_reproducible(first: Draft, second: Draft) -> tuple[str, ...]:
    """Two builds of one checkpoint are the same bytes; the name of the check.

    Raises:
        GateError: they are not.
    """
    return checks.run((REPRODUCIBILITY,), (first, second))


def _differing(drafts: tuple[Draft, Draft]) -> Iterator[Finding]:
    first, second = drafts
    differing = [name for name in first.contents if first.contents[name] != second.contents.get(name)]
    if not differing and first.model != second.model:
        differing = [MODEL_FILE]
    for name in differing:
        yield Finding(name, "exported twice, got different bytes", passed=False)


def _misfits(described: tuple[Model, Golden]) -> Iterator[Finding]:
    model, golden = described
    try:
        check_model(model)
        check_golden(model, golden)
    except BundleError as error:
        yield Finding(MODEL_FILE, str(error), passed=False)


DESCRIPTION: Check[tuple[Model, Golden]] = Check("structure", _misfits)
"""What the network says of its sizes and latents is what its graphs give: a server would refuse the version."""
REPRODUCIBILITY: Check[tuple[Draft, Draft]] = Check("reproducibility", _differing)
"""Exported twice, all hashed files and model.json are the same bytes."""
