"""A bundle against itself: place, hashes, structure, golden vectors, batch invariance; all that a server checks.

Runs on any machine with onnxruntime, without torch or onnx.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from autoencoder.v1.model_pb2 import Model, Signature

from bundle import golden, latents, layout
from bundle.compatibility import check_golden, check_model, check_statistics
from bundle.errors import BundleError
from bundle.golden import Golden, SampleCase
from bundle.graph import check_graph
from bundle.latents import LatentStatistics
from bundle.layout import GOLDEN_FILE, LATENTS_FILE, MODEL_FILE, SIGNATURE_FILE
from bundle.signing import KeyFileError, PublicKey, check_signature
from export.errors import InputError
from export.gate.parity import Array, invariance
from export.gate.sandbox import CrashError, Isolation
from export.gate.selftest import golden_problems
from export.runtime import Device, open_session


@dataclass(frozen=True)
class Finding:
    """One check of one subject: what was seen, or why it failed."""

    check: str
    subject: str
    seen: str
    passed: bool


def verify(folder: Path, device: Device = "cpu", public_key: Path | None = None) -> list[Finding]:
    """Check a version's folder; a failed check ends those that need it.

    Raises:
        InputError: there is no version in the folder, or no key in the file.
    """
    try:
        key = None if public_key is None else PublicKey.read(public_key)
        model = layout.read_model(folder)
    except KeyFileError as error:
        raise InputError(str(error)) from error
    except BundleError as error:
        raise InputError(f"{error}; give the folder of one version, <repository>/<name>/<version>") from error
    try:
        contents = layout.read_files(folder, model)
    except BundleError as error:
        return [Finding("hashes", folder.name, str(error), passed=False)]
    findings = [Finding("hashes", folder.name, f"{len(contents)} files as model.json lists them", passed=True)]
    findings += _signature(folder, model, contents, key)
    findings.append(_description(folder, model))
    findings += [
        _structure(signature, contents[signature.file], imported=model.imported) for signature in model.signatures
    ]
    if all(finding.passed for finding in findings):
        findings += _golden(model, contents, device)
    return findings


def invariance_of(
    graph: bytes, inputs: Mapping[str, Array], tolerance: float = 0.0, device: Device = "cpu"
) -> tuple[float, float]:
    """Largest difference of a row alone and in company, and as a multiple of the tolerance; runs in a process apart."""
    return invariance(open_session(graph, device), [inputs], tolerance)


def _signature(folder: Path, model: Model, contents: Mapping[str, bytes], key: PublicKey | None) -> Iterator[Finding]:
    if key is None:
        return
    try:
        signature = (folder / SIGNATURE_FILE).read_bytes()
        check_signature(signature, {MODEL_FILE: layout.encode_model(model), **contents}, key)
    except OSError as error:
        yield Finding("signature", folder.name, f"not signed: {error.strerror}", passed=False)
    except BundleError as error:
        yield Finding("signature", folder.name, str(error), passed=False)
    else:
        yield Finding("signature", folder.name, "by the key given", passed=True)


def _description(folder: Path, model: Model) -> Finding:
    """What model.json says, against the folder that it lies in and what a server knows."""
    try:
        _check_place(folder, model)
        check_model(model)
    except BundleError as error:
        return Finding("description", folder.name, str(error), passed=False)
    return Finding("description", folder.name, f"serves {', '.join(model.methods)}", passed=True)


def _check_place(folder: Path, model: Model) -> None:
    # As it is called, or where a link of another name leads.
    places = [f"{each.parent.name}/{each.name}" for each in (folder.absolute(), folder.resolve())]
    if (wanted := f"{model.name}/{model.version}") not in places:
        raise BundleError(
            f"expected the folder {wanted}, as model.json says, got {places[0]}: a server refuses it there"
        )


def _structure(signature: Signature, graph: bytes, *, imported: bool) -> Finding:
    try:
        read = check_graph(graph, signature, imported=imported)
    except BundleError as error:
        return Finding("structure", signature.name, str(error), passed=False)
    return Finding("structure", signature.name, f"opset {read.opset}, {read.operators.total()} nodes", passed=True)


def _golden(model: Model, contents: Mapping[str, bytes], device: Device) -> Iterator[Finding]:
    try:
        expected = Golden.from_bytes(contents[GOLDEN_FILE])
        check_golden(model, expected)
        statistics = LatentStatistics.from_bytes(contents[LATENTS_FILE]) if LATENTS_FILE in contents else None
        check_statistics(model, statistics)
    except BundleError as error:
        yield Finding("golden vectors", "", str(error), passed=False)
        return
    with Isolation() as apart:
        for signature in model.signatures:
            yield from _run(signature, contents[signature.file], expected, device, apart)
    if expected.sample_case is not None:
        yield _sample(model, expected.sample_case, statistics)


def _run(signature: Signature, graph: bytes, expected: Golden, device: Device, apart: Isolation) -> Iterator[Finding]:
    cases, tolerance = expected.of(signature.name), signature.golden_tolerance
    try:
        found = apart.run(golden_problems, graph, cases, tolerance, device)
        difference, excess = apart.run(invariance_of, graph, _company(cases, signature), tolerance, device)
    except (BundleError, CrashError) as error:
        yield Finding("golden vectors", signature.name, str(error), passed=False)
        return
    yield Finding("golden vectors", signature.name, "; ".join(found) or f"{len(cases)} cases agree", passed=not found)
    # On CUDA the library promises no bits, and neither does the bundle.
    claimed = signature.batch_invariant and device == "cpu"
    seen = (
        "the same bits alone and in company"
        if difference == 0
        else f"up to {difference:.1e} between alone and in company"
    )
    yield Finding("batch invariance", signature.name, seen, passed=difference == 0 or (not claimed and excess <= 1))


def _company(cases: Sequence[golden.Case], signature: Signature) -> dict[str, Array]:
    """Golden inputs, again and again up to the largest batch."""
    rows = max(signature.batch_buckets, default=1)
    joined = {name: np.concatenate([case.inputs[name] for case in cases]) for name in cases[0].inputs}
    return {name: np.resize(array, (rows, *array.shape[1:])) for name, array in joined.items()}


def _sample(model: Model, case: SampleCase, statistics: LatentStatistics | None) -> Finding:
    drawn = latents.draw(model.family, model.latent_size, statistics, case.seed, 0, case.count, case.temperature)
    same = drawn is not None and drawn.tobytes() == case.latents.tobytes()
    seen = f"seed {case.seed} draws {'the' if same else 'other'} latents"
    return Finding("golden vectors", "sample", seen, passed=same)
