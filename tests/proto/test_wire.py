"""The wire: committed stubs are the generated ones, names are those of the contract, changes are compatible."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from autoencoder.v1 import autoencoder_pb2, model_pb2
from google.protobuf.descriptor import FieldDescriptor

ROOT = Path(__file__).resolve().parents[2]
BUF = ROOT / "build/npm/node_modules/.bin/buf"
SERVICE = autoencoder_pb2.DESCRIPTOR.services_by_name["AutoencoderService"]


def test_stubs_match_the_proto_files() -> None:
    done = subprocess.run(
        [sys.executable, "proto/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_stub_check_sees_a_difference(tmp_path: Path) -> None:
    copy = tmp_path / "proto"
    shutil.copytree(ROOT / "proto", copy)
    stub = copy / "autoencoder/v1/model_pb2.pyi"
    stub.write_text(stub.read_text() + "\n")
    done = subprocess.run(
        [sys.executable, str(copy / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "model_pb2.pyi" in done.stderr


def test_every_method_has_its_own_request_and_response() -> None:
    for method in SERVICE.methods:
        assert method.input_type.name == f"{method.name}Request"
        assert method.output_type.name == f"{method.name}Response"


def test_requests_begin_with_model_name_and_version() -> None:
    for method in SERVICE.methods:
        if method.name in {"ListModels", "Stream"}:
            continue
        assert [field.name for field in method.input_type.fields[:2]] == ["model_name", "model_version"]


def test_responses_of_graphs_carry_info() -> None:
    for method in SERVICE.methods:
        if method.name in {"ListModels", "GetModel", "Stream"}:
            continue
        assert method.output_type.fields_by_name["info"].message_type.name == "ServingInfo"


def test_stream_takes_every_method_that_runs_a_graph() -> None:
    unary = {method.name.lower() for method in SERVICE.methods} - {"listmodels", "getmodel", "stream"}
    assert {field.name for field in autoencoder_pb2.StreamRequest.DESCRIPTOR.oneofs[0].fields} == unary
    assert {field.name for field in autoencoder_pb2.StreamResponse.DESCRIPTOR.oneofs[0].fields} == unary | {"error"}


def test_seed_and_temperature_know_absence() -> None:
    request = autoencoder_pb2.SampleRequest.DESCRIPTOR.fields_by_name
    assert request["seed"].has_presence
    assert request["temperature"].has_presence
    assert request["seed"].type == FieldDescriptor.TYPE_UINT64
    assert model_pb2.DATA_TYPE_UNSPECIFIED == 0


def test_an_incompatible_change_is_refused(tmp_path: Path) -> None:
    if not BUF.exists():
        pytest.skip("buf is absent: run `make wire`")
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    file = tmp_path / "proto/autoencoder/v1/autoencoder.proto"
    file.write_text(file.read_text().replace("int32 count = 3", "int64 count = 3"))
    done = subprocess.run(
        [str(BUF), "breaking", str(tmp_path / "proto"), "--against", str(ROOT / "proto/baseline.binpb")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "count" in done.stdout + done.stderr
