"""Verifies a version as a server does when it loads it: place, hashes, structure, golden vectors, batches, tiles.

Runs on any machine with onnxruntime, without torch or onnx.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from autoencoder.v1.model_pb2 import Model

from bundle import layout
from bundle.compatibility import check_golden, check_model, check_statistics
from bundle.errors import BundleError
from bundle.golden import Golden
from bundle.graph import MAX_RUN_BYTES
from bundle.latents import LatentStatistics
from bundle.layout import GOLDEN_FILE, LATENTS_FILE, MODEL_FILE, SIGNING_FILE
from bundle.replay import draws_golden_latents
from bundle.runtime_options import PROMISES_BITS, Device, is_bfloat16
from bundle.signing import MAX_SIGNING_BYTES, KeyFileError, PublicKey, check_signing
from export.errors import InputError
from export.gate.checks import BATCH_INVARIANCE, GOLDEN_VECTORS, STRUCTURE, Check, CheckedBundle, Finding
from export.gate.parity import tile_difference
from export.gate.sandbox import CrashError, Sandbox


@dataclass(kw_only=True)
class _Version(CheckedBundle):
    """A version's folder, read and compared with its hashes."""

    folder: Path
    model: Model
    contents: Mapping[str, bytes]
    key: PublicKey | None
    statistics: LatentStatistics | None = None


def verify(
    folder: Path, device: Device = "cpu", public_key: Path | None = None, max_run_bytes: int = MAX_RUN_BYTES
) -> list[Finding]:
    """Check a version's folder; a failed check ends those that need it.

    Raises:
        InputError: there is no version in the folder, no key in the file, or the version does not run on the device.
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
        return [Finding(folder.name, str(error), passed=False, check="hashes")]
    hashes = Finding(folder.name, f"{len(contents)} files as model.json lists them", passed=True, check="hashes")
    with Sandbox() as sandbox:
        version = _Version(
            signatures=model.signatures,
            graphs={signature.name: contents[signature.file] for signature in model.signatures},
            golden=Golden({}),
            sandbox=sandbox,
            device=_device(model, device),
            imported=model.imported,
            max_run_bytes=max_run_bytes,
            folder=folder,
            model=model,
            contents=contents,
            key=key,
        )
        return [hashes, *_verify(version)]


def _device(model: Model, device: Device) -> Device:
    """The device asked for; for a variant in bfloat16, OpenVINO in bfloat16."""
    if not is_bfloat16(model):
        return device
    if device == "openvino":
        return "openvino-bfloat16"
    raise InputError(f"expected --device openvino for a version in bfloat16, got {device}")


def _verify(version: _Version) -> Iterator[Finding]:
    before_running = _findings((SIGNING, DESCRIPTION, STRUCTURE), version)
    yield from before_running
    if not all(each.passed for each in before_running):
        return
    try:
        version = _with_golden(version)
    except BundleError as error:
        yield Finding("", str(error), passed=False, check=GOLDEN_VECTORS.name)
        return
    replayed = _findings((GOLDEN_VECTORS, SAMPLE), version)
    yield from replayed
    if all(each.passed for each in replayed):
        yield from _findings((BATCH_INVARIANCE, TILES), version)


def _findings(checks: Sequence[Check[_Version]], version: _Version) -> list[Finding]:
    return [finding for check in checks for finding in check.findings(version)]


def _with_golden(version: _Version) -> _Version:
    golden = Golden.from_bytes(version.contents[GOLDEN_FILE])
    check_golden(version.model, golden)
    data = version.contents.get(LATENTS_FILE)
    statistics = None if data is None else LatentStatistics.from_bytes(data)
    check_statistics(version.model, statistics)
    return replace(version, golden=golden, statistics=statistics)


def _signing(version: _Version) -> Iterator[Finding]:
    if version.key is None:
        return
    name = version.folder.name
    try:
        signing = layout.read_file(version.folder / SIGNING_FILE, MAX_SIGNING_BYTES)
    except BundleError as error:
        yield Finding(name, f"not signed: {error}", passed=False)
        return
    try:
        check_signing(signing, {MODEL_FILE: layout.encode_model(version.model), **version.contents}, version.key)
    except BundleError as error:
        yield Finding(name, str(error), passed=False)
    else:
        yield Finding(name, "signed by the given key", passed=True)


def _description(version: _Version) -> Iterator[Finding]:
    name, model = version.folder.name, version.model
    try:
        _check_place(version.folder, model)
        check_model(model)
    except BundleError as error:
        yield Finding(name, str(error), passed=False)
    else:
        yield Finding(name, f"serves {', '.join(model.methods)}", passed=True)


def _check_place(folder: Path, model: Model) -> None:
    # By its own name, or by that of the target where it is a link.
    places = [f"{each.parent.name}/{each.name}" for each in (folder.absolute(), folder.resolve())]
    if (expected := f"{model.name}/{model.version}") not in places:
        raise BundleError(
            f"expected the folder {expected}, as model.json says, got {places[0]}: a server refuses it there"
        )


def _sample(version: _Version) -> Iterator[Finding]:
    case = version.golden.sample_case
    if case is not None:
        same = draws_golden_latents(version.model, version.statistics, case)
        yield Finding("sample", f"seed {case.seed} draws {'the' if same else 'other'} latents", passed=same)


def _tiles(version: _Version) -> Iterator[Finding]:
    levels = np.full(1, version.model.noise_level.maximum, np.float32)
    for signature in version.signatures:
        if not signature.HasField("tiling"):
            continue
        graph, beside = version.graphs[signature.name], [levels for _ in signature.inputs[1:]]
        try:
            found = version.sandbox.run(tile_difference, graph, signature, beside, version.device)
        except (BundleError, CrashError) as error:
            yield Finding(signature.name, str(error), passed=False)
            continue
        claimed = signature.tiling.exact and version.device in PROMISES_BITS
        passed = found.largest == 0 or (not claimed and found.excess <= 1)
        off = f"off by {found.largest:.3g}" if found.largest else "the same bits"
        yield Finding(signature.name, off, passed=passed, where="tiles against the whole image")


SIGNING = Check("signing", _signing)
"""The given key has signed model.json and the files that it lists."""
DESCRIPTION = Check("description", _description)
"""model.json fits its folder and what a server knows."""
SAMPLE = Check("golden vectors", _sample)
"""The golden seed draws the golden latents, to the bit."""
TILES = Check("tiles", _tiles)
"""Tiles give what the whole image gives: the same bits where the bundle claims so, else within the tolerance."""
