"""A bundle against itself: hashes, structure, golden vectors, batch invariance.

Runs on any machine with onnxruntime, without torch or onnx.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from autoencoder.v1.model_pb2 import Model, Signature

from bundle import golden, layout
from bundle.errors import BundleError
from bundle.golden import Golden
from bundle.graph import NEWEST_OPSET, OLDEST_OPSET, OPSET, problems, read_graph
from bundle.latents import LatentStatistics, prior, standard
from bundle.layout import GOLDEN_FILE, LATENTS_FILE, MODEL_FILE, SIGNATURE_FILE
from bundle.signing import KeyFileError, PublicKey, check_signature
from export.errors import InputError
from export.isolation import CrashError, Isolation
from export.parity import Array, invariance
from export.runtime import Device, open_session
from export.selftest import golden_problems


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
    findings += [
        _structure(signature, contents[signature.file], imported=model.imported) for signature in model.signatures
    ]
    if all(finding.passed for finding in findings):
        findings += _golden(model, contents, device)
    return findings


def invariance_of(graph: bytes, inputs: Mapping[str, Array], device: Device) -> float:
    """Largest difference between a row alone and in company; runs in a process apart."""
    return invariance(open_session(graph, device), [inputs])


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


def _structure(signature: Signature, graph: bytes, *, imported: bool) -> Finding:
    opsets = range(OLDEST_OPSET, NEWEST_OPSET + 1) if imported else (OPSET,)
    try:
        read = read_graph(graph)
    except BundleError as error:
        return Finding("structure", signature.name, str(error), passed=False)
    if found := problems(read, signature, opsets):
        return Finding("structure", signature.name, "; ".join(found), passed=False)
    return Finding("structure", signature.name, f"opset {read.opset}, {read.operators.total()} nodes", passed=True)


def _golden(model: Model, contents: Mapping[str, bytes], device: Device) -> Iterator[Finding]:
    try:
        expected = Golden.from_bytes(contents[GOLDEN_FILE])
        statistics = LatentStatistics.from_bytes(contents[LATENTS_FILE]) if LATENTS_FILE in contents else None
    except BundleError as error:
        yield Finding("golden vectors", "", str(error), passed=False)
        return
    with Isolation() as apart:
        for signature in model.signatures:
            yield from _run(signature, contents[signature.file], expected, device, apart)
    if expected.sample_case is not None:
        yield _sample(model, expected.sample_case, statistics)


def _run(signature: Signature, graph: bytes, expected: Golden, device: Device, apart: Isolation) -> Iterator[Finding]:
    cases, tolerance = expected.cases.get(signature.name, ()), signature.golden_tolerance
    if not cases:
        yield Finding("golden vectors", signature.name, "there are none", passed=False)
        return
    try:
        found = apart.run(golden_problems, graph, cases, tolerance, device)
        difference = apart.run(invariance_of, graph, _company(cases, signature), device)
    except (BundleError, CrashError) as error:
        yield Finding("golden vectors", signature.name, str(error), passed=False)
        return
    yield Finding("golden vectors", signature.name, "; ".join(found) or f"{len(cases)} cases agree", passed=not found)
    # On CUDA the library promises nothing, and neither does the bundle.
    claimed = signature.batch_invariant and device == "cpu"
    seen = (
        "the same bits alone and in company"
        if difference == 0
        else f"up to {difference:.1e} between alone and in company"
    )
    yield Finding("batch invariance", signature.name, seen, passed=difference == 0 or not claimed)


def _company(cases: tuple[golden.Case, ...], signature: Signature) -> dict[str, Array]:
    """Golden inputs, again and again up to the largest batch."""
    rows = max(signature.batch_buckets, default=1)
    joined = {name: np.concatenate([case.inputs[name] for case in cases]) for name in cases[0].inputs}
    return {name: np.resize(array, (rows, *array.shape[1:])) for name, array in joined.items()}


def _sample(model: Model, case: golden.SampleCase, statistics: LatentStatistics | None) -> Finding:
    kind = prior(model.family)
    if statistics is not None:
        drawn = statistics.sample(case.seed, 0, case.count, case.temperature, kind)
    elif kind == "normal":
        drawn = standard(case.seed, 0, case.count, model.latent_size, case.temperature)
    else:
        return Finding("golden vectors", "sample", "wanted a density to draw from, got none", passed=False)
    same = drawn.tobytes() == case.latents.tobytes()
    return Finding(
        "golden vectors", "sample", f"seed {case.seed} draws {'the' if same else 'other'} latents", passed=same
    )
