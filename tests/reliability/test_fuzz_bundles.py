"""Damaged bundles and ONNX files at export's commands: one sentence and exit code 2, or 1 where a check refuses."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from autoencoder.v1.model_pb2 import Model
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from bundle import layout
from bundle.compatibility import check_golden, check_model, check_statistics
from bundle.errors import BundleError
from bundle.golden import Golden
from bundle.latents import LatentStatistics
from export.__main__ import main
from export.checkpoint import load
from export.errors import ExportError, InputError
from export.importing.adapt import adapt
from export.importing.ports import ports
from export.importing.source import SourceFile
from export.inspection import show
from export.inspection.diff import Version
from export.inspection.results_table import results
from export.publication.model_json import finite_metrics, provenance
from tests.export.bundles import copied, replace_file
from tests.reliability.mutation import FUZZED, damaged
from tests.server.conftest import GOLDEN
from training import checkpoint
from training.data.split import Split
from training.models import autoencoders
from training.recipe import load_recipe

VERSION = GOLDEN / "multitask" / "1"
SIGNATURES = {each.name: each for each in layout.read_model(VERSION).signatures}
WHOLE = {path.name: path.read_bytes() for path in VERSION.iterdir()}
LISTED = sorted(set(WHOLE) - {layout.MODEL_FILE})
# JSON of any kind in the place of any value.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("\ud800" * 3)
    | st.just(10**400) | st.just("x" * 100_000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def check_sentence(error: Exception) -> None:
    assert len(str(error)) < 1000
    assert str(error).isprintable()


def read(folder: Path) -> None:
    """Everything that a command reads of a version before it runs a graph."""
    for command in (show.describe, Version.read):
        try:
            command(folder)
        except InputError as error:
            check_sentence(error)


def places(value: object, path: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


def changed(value: object, path: tuple, new: object) -> object:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(copy[path[0]], path[1:], new)
    return copy


DESCRIPTION = json.loads(WHOLE[layout.MODEL_FILE])


def test_descriptions_with_anything_anywhere(tmp_path: Path) -> None:
    folder = copied("multitask", tmp_path)

    @FUZZED
    @given(st.sampled_from(places(DESCRIPTION)), ANYTHING)
    def fuzz(path: tuple, new: object) -> None:
        (folder / layout.MODEL_FILE).write_text(json.dumps(changed(DESCRIPTION, path, new)))
        read(folder)

    fuzz()


@pytest.mark.parametrize("name", LISTED)
def test_damage_that_is_listed_with_its_hash(tmp_path: Path, name: str) -> None:
    """A stranger's bundle agrees with its own list."""
    folder = copied("multitask", tmp_path)

    @FUZZED
    @given(damaged(WHOLE[name]))
    def fuzz(data: bytes) -> None:
        replace_file(folder, name, data)
        read(folder)
        try:
            model = layout.read_model(folder)
            check_model(model)
            check_golden(model, Golden.from_bytes((folder / layout.GOLDEN_FILE).read_bytes()))
            check_statistics(model, LatentStatistics.from_bytes((folder / layout.LATENTS_FILE).read_bytes()))
        except BundleError as error:
            check_sentence(error)

    fuzz()


REPORT = {
    "seconds": 1.0,
    "cpu_seconds": 1.0,
    "graphs": {
        name: {"max_abs_error": 0.0, "row_alone_difference": 0.0, "batch_buckets": [{"rows": 1, "best_ms": 1.0}]}
        for name in SIGNATURES
    },
}


def test_reports_with_anything_anywhere(tmp_path: Path) -> None:
    folder = copied("multitask", tmp_path)

    @FUZZED
    @given(st.sampled_from(places(REPORT)), ANYTHING)
    def fuzz(path: tuple, new: object) -> None:
        (folder / layout.REPORT_FILE).write_text(json.dumps(changed(REPORT, path, new)))
        try:
            results(tmp_path)
        except InputError as error:
            check_sentence(error)

    fuzz()


def test_files_to_import(tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    whole = onnx.load_model_from_string(WHOLE["encode.onnx"])
    whole.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))

    @FUZZED
    @given(damaged(whole.SerializeToString()), st.sampled_from([None, (8, 8, 1), (2**31, 2**31, 3)]))
    def fuzz(data: bytes, images: tuple[int, int, int] | None) -> None:
        path.write_bytes(data)
        try:
            source = SourceFile.read(str(path), images)
            ports(source.model)
            adapt(source.model, SIGNATURES["encode"], (8, 8, 1))
        except ExportError as error:
            check_sentence(error)

    fuzz()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of weights that have learned nothing yet."""
    settings = load_recipe("fc-ae", "digits", [])
    network = autoencoders.build(settings.model, (28, 28, 1))
    meta = {
        "model": checkpoint.describe(settings.model, (28, 28, 1), ()),
        "name": "fc-ae",
        "config": {"run": {"seed": 1}},
        "data": {"name": "digits"},
        "metrics": {"mse": 0.1},
        "tools": {"torch": "2"},
    }
    folder = tmp_path_factory.mktemp("run") / "best"
    reference = Split(np.zeros((4, 28, 28, 1), np.uint8), None)
    checkpoint.write(folder, checkpoint.files(network.state_dict(), meta, reference, None))
    return folder


def test_checkpoints_with_anything_anywhere(saved: Path) -> None:
    path = saved / checkpoint.META
    description = json.loads(path.read_text())
    # Sizes of the network that a checkpoint asks for are training's to bound.
    sizes = {("model", "architecture"), ("model", "image_shape")}
    kept = [each for each in places(description) if each[:2] not in sizes]

    @FUZZED
    @given(st.sampled_from(kept), ANYTHING)
    def fuzz(place: tuple, new: object) -> None:
        path.write_text(json.dumps(changed(description, place, new)))
        try:
            meta = load(saved).checkpoint.meta
            Model(provenance=provenance(meta, "0"), metrics=finite_metrics(meta.get("metrics", {})))
        except ExportError as error:
            check_sentence(error)

    fuzz()
    path.write_text('{"a":' * 100_000)
    with pytest.raises(InputError, match=r"cannot be read|damaged"):
        load(saved)


def deep(path: Path) -> None:
    path.write_bytes(b'{"dsseEnvelope":' * 100_000)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(3000))


@pytest.mark.parametrize("make", [deep, pipe, device, folder, noise])
@pytest.mark.parametrize("name", ["model.json", "golden.npz", "encode.onnx"])
def test_commands_on_what_is_no_file(
    name: str, make: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copied("multitask", tmp_path)
    (bundle / name).unlink()
    make(bundle / name)
    whole = shutil.copytree(VERSION, tmp_path / "whole" / "1")
    expected = 2 if name == "model.json" else 1
    assert main(["verify", str(bundle)]) == expected
    for arguments in (["inspect", str(bundle)], ["diff", str(bundle), str(whole)], ["diff", str(whole), str(bundle)]):
        assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (4 if expected == 2 else 3)
    assert max(map(len, lines)) < 1000
