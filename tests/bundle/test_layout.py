import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT8, File, Model, Signature, TensorSpec

from bundle import layout
from bundle.errors import BundleError

CONTENTS = {"golden.npz": b"golden", "encode.onnx": b"graph" * 100}


def described(**changes: Any) -> Model:
    spec = TensorSpec(name="images", data_type=DATA_TYPE_UINT8, shape=[-1, 8, 8, 1])
    fields = {
        "name": "fc-ae",
        "version": "3",
        "family": "ae",
        "signatures": [Signature(name="encode", file="encode.onnx", inputs=[spec], parity_max_abs_error=1.25e-7)],
        "files": layout.describe_files(CONTENTS),
        "metrics": {"test_mse": 0.1, "a": 3.0},
    }
    return Model(**(fields | changes))


def written(folder: Path, model: Model, contents: dict[str, bytes] = CONTENTS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / layout.MODEL_FILE).write_bytes(layout.encode_model(model))
    return folder


def test_what_is_in_a_repository(tmp_path: Path) -> None:
    for version in (10, 9, 1):
        written(layout.version_folder(tmp_path, "fc-ae", version), described(version=str(version)))
    for stray in ("fc-ae/11", "fc-ae/02", "fc-ae/0", "fc-ae/latest", "fc-ae/.4.tmp", "Upper", ".hidden", "empty"):
        (tmp_path / stray).mkdir()
    (tmp_path / "fc-ae/02/model.json").touch()
    (tmp_path / "file").touch()
    assert layout.model_names(tmp_path) == ["empty", "fc-ae"]
    assert layout.versions(tmp_path, "fc-ae") == [1, 9, 10]
    assert layout.versions(tmp_path, "empty") == []
    assert layout.versions(tmp_path, "unknown") == []
    assert layout.model_names(tmp_path / "unknown") == []


def test_what_cannot_be_looked_at_hides_nothing_else(tmp_path: Path) -> None:
    written(layout.version_folder(tmp_path, "fc-ae", 1), described(version="1"))
    (tmp_path / "zz").symlink_to("x" * 300)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "fc-ae" / "2").symlink_to("x" * 300)
    assert layout.model_names(tmp_path) == ["fc-ae"]
    assert layout.versions(tmp_path, "fc-ae") == [1]
    assert layout.versions(tmp_path, "zz") == []


def test_json_nested_too_deep_is_no_description(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("[" * 200_000)
    with pytest.raises(BundleError, match="expected the message Model as JSON"):
        layout.read_model(tmp_path)


def test_model_round_trip(tmp_path: Path) -> None:
    folder = written(tmp_path / "fc-ae/3", described())
    model = layout.read_model(folder)
    assert model == described()
    assert layout.read_files(folder, model) == CONTENTS


def test_equal_models_give_equal_bytes_with_proto_field_names() -> None:
    data = layout.encode_model(described())
    assert layout.encode_model(described(metrics={"a": 3.0, "test_mse": 0.1})) == data
    assert json.loads(data)["signatures"][0]["parity_max_abs_error"] == 1.25e-7
    assert data.endswith(b"}\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "readable"),
        (lambda path: path.write_bytes(b"other" * 100), "SHA-256"),
        (lambda path: path.write_bytes(b"graph" * 99), "495 with"),
        (lambda path: path.write_bytes(b"graph" * 101), "at most"),
        (lambda path: (path.unlink(), path.mkdir()), "readable"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "pipe or device"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "pipe or device"),
    ],
)
def test_a_file_that_is_not_the_one_described(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    folder = written(tmp_path / "fc-ae/3", described())
    damage(folder / "encode.onnx")
    with pytest.raises(BundleError, match=rf"encode\.onnx.*{message}"):
        layout.read_files(folder, layout.read_model(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../x"}, "name"),
        ({"version": "03"}, "version"),
        ({"signatures": []}, "no signature"),
        ({"signatures": [Signature(name="decode", file="decode.onnx")]}, r"decode\.onnx"),
        ({"files": layout.describe_files({"encode.onnx": b""})}, r"golden\.npz"),
        ({"files": layout.describe_files(CONTENTS | {"../x": b""})}, "leads out"),
        ({"files": layout.describe_files(CONTENTS | {"/etc/passwd": b""})}, "leads out"),
        ({"files": layout.describe_files(CONTENTS | {"a\0b": b""})}, "leads out"),
        ({"files": [*layout.describe_files(CONTENTS), *layout.describe_files(CONTENTS)]}, "twice"),
        ({"files": [*layout.describe_files(CONTENTS), File(path="x", size_bytes=-1)]}, "negative size"),
    ],
)
def test_a_model_that_contradicts_itself(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        layout.read_model(written(tmp_path / "fc-ae/3", described(**changes)))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"nmae": "x"}', b"\xff\xfe", b" " * 5_000_000])
def test_what_is_not_a_model(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.json").write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.json"):
        layout.read_model(tmp_path)


def test_no_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="readable"):
        layout.read_model(tmp_path)
