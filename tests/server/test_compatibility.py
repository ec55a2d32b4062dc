"""Bundles that this server must not serve, each with a word that says why."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from bundle import layout
from bundle.golden import Golden, SampleCase
from tests.server.conftest import GOLDEN, copy_version, serving, write_graph

Edit = Callable[[dict], None]


def signature(model: dict, name: str) -> dict:
    return next(entry for entry in model["signatures"] if entry["name"] == name)


def other_shape(model: dict) -> None:
    signature(model, "encode")["outputs"][0]["shape"] = [-1, 5]


def other_type(model: dict) -> None:
    signature(model, "decode")["inputs"][0]["data_type"] = "DATA_TYPE_INT64"


def other_name(model: dict) -> None:
    signature(model, "decode")["outputs"][0]["name"] = "pictures"


def unknown_signature(model: dict) -> None:
    signature(model, "reconstruct")["name"] = "restore"


def method_without_graph(model: dict) -> None:
    model["methods"].append("Classify")


def other_latent_size(model: dict) -> None:
    model["latent_size"] = 5
    signature(model, "encode")["outputs"][0]["shape"] = [-1, 5]
    signature(model, "decode")["inputs"][0]["shape"] = [-1, 5]


def unknown_attribute(model: dict) -> None:
    model["attributes"] = ["age"]


def other_model(model: dict) -> None:
    model["name"] = "someone"


def two_channels(model: dict) -> None:
    model["channels"] = 2


def no_golden(model: dict) -> None:
    model["files"] = [file for file in model["files"] if file["path"] != "golden.npz"]


EDITS: dict[Edit, str] = {
    other_shape: "latents: expected shape [-1, 4]",
    other_type: "latents: expected shape [-1, 4] and a type",
    other_name: "expected latents to images",
    unknown_signature: "'restore'",
    method_without_graph: "Classify needs the graphs classify",
    other_latent_size: "expected latents of 5, got 4",
    unknown_attribute: "expected the attributes ['age'], got []",
    other_model: "expected model fc-ae version 1, got someone",
    two_channels: "expected images of 1 or 3 channels, as image files have, got 2",
    no_golden: "golden.npz is not listed",
}


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_a_bundle_at_odds_with_itself(repository: Path, edit: Edit) -> None:
    copy_version(repository, "fc-ae", 1, edit)
    assert EDITS[edit] in refusal(repository, "fc-ae", "invalid")


def refusal(repository: Path, name: str, result: str) -> str:
    """Why the only version of a model is refused, with the right word in the metrics."""
    with serving(repository, poll_seconds=0) as served:
        loads = served.app.metrics.models.loads.labels(name, result)
        assert next(iter(loads.collect())).samples[0].value == 1
        return served.app.table.snapshot.unavailable[name, 1].reason


def replace_file(folder: Path, path: str, data: bytes) -> None:
    """Another content under a hash that fits."""
    (folder / path).write_bytes(data)
    description = json.loads((folder / layout.MODEL_FILE).read_text())
    entry = next(file for file in description["files"] if file["path"] == path)
    entry |= {"size_bytes": str(len(data)), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / layout.MODEL_FILE).write_text(json.dumps(description))


def test_a_graph_of_other_tensors_than_it_says(repository: Path) -> None:
    folder = copy_version(repository, "fc-ae", 1)
    replace_file(folder, "decode.onnx", (folder / "encode.onnx").read_bytes())
    assert "decode.onnx: expected inputs" in refusal(repository, "fc-ae", "invalid")


def test_a_file_that_is_no_graph(repository: Path) -> None:
    replace_file(copy_version(repository, "fc-ae", 1), "decode.onnx", b"\x0a\xff")
    assert "decode.onnx: expected an ONNX file" in refusal(repository, "fc-ae", "invalid")


def test_another_golden_sample(repository: Path) -> None:
    folder = copy_version(repository, "vae", 1)
    golden = Golden.from_bytes((folder / layout.GOLDEN_FILE).read_bytes())
    case = golden.sample_case
    assert isinstance(case, SampleCase)
    changed = SampleCase(case.seed + 1, case.count, case.temperature, case.latents, case.images)
    replace_file(folder, layout.GOLDEN_FILE, Golden(golden.cases, changed).to_bytes())
    assert "draws other latents" in refusal(repository, "vae", "self_test_failed")


def test_a_signature_without_golden_cases(repository: Path) -> None:
    folder = copy_version(repository, "vae", 1)
    golden = Golden.from_bytes((folder / layout.GOLDEN_FILE).read_bytes())
    cases = {name: case for name, case in golden.cases.items() if name != "encode"}
    replace_file(folder, layout.GOLDEN_FILE, Golden(cases, golden.sample_case).to_bytes())
    assert "expected a case for signature 'encode'" in refusal(repository, "vae", "self_test_failed")


def test_a_false_claim_of_batch_invariance(repository: Path) -> None:
    # The mean over the batch makes every row depend on its company.
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[0]),
        helper.make_node("Add", ["images", "mean"], ["denoised"]),
    ]
    write_graph(repository, "dependent", 1, nodes, [])
    path = repository / "dependent" / "1" / layout.MODEL_FILE
    description = json.loads(path.read_text())
    description["signatures"][0]["batch_invariant"] = True
    path.write_text(json.dumps(description))
    assert "batches change no bit" in refusal(repository, "dependent", "self_test_failed")


def test_a_loose_graph_that_batches_change_is_never_batched(repository: Path, transport: str) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[0]),
        helper.make_node("Add", ["images", "mean"], ["denoised"]),
    ]
    write_graph(repository, "dependent", 1, nodes, [])
    path = repository / "dependent" / "1" / layout.MODEL_FILE
    description = json.loads(path.read_text())
    description["signatures"][0]["golden_tolerance"] = 0.5
    path.write_text(json.dumps(description))
    batch = np.stack([np.full((32, 32, 1), value, np.float32) for value in (0.25, 0.5)])
    message = pb.Images(tensor=pb.Tensor(data_type=3, shape=batch.shape, data=batch.tobytes()))
    request = pb.DenoiseRequest(images=message, image_format=pb.IMAGE_FORMAT_FLOAT32)
    with serving(repository, transport=transport) as served:
        answer = served.stub.Denoise(request)
    assert answer.info.batch_size == 1
    assert np.frombuffer(answer.images.tensor.data, np.float32)[[0, -1]].tolist() == [0.5, 1.0]


def test_operators_of_strangers(repository: Path) -> None:
    nodes = [helper.make_node("Identity", ["images"], ["denoised"], domain="evil.example")]
    write_graph(repository, "foreign", 1, nodes, [], domains=("", "evil.example"))
    assert "evil.example" in refusal(repository, "foreign", "invalid")


def test_control_flow(repository: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["images"], ["out"])],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    nodes = [helper.make_node("If", ["yes"], ["denoised"], then_branch=branch, else_branch=branch)]
    write_graph(repository, "branched", 1, nodes, [numpy_helper.from_array(np.ones((), bool), "yes")])
    reason = refusal(repository, "branched", "invalid")
    assert "a graph within a graph is not allowed" in reason
    assert "operator If is not allowed" in reason


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("initializer", "outside the file are not allowed: w"),
        ("sparse initializer", "sparse weights are not allowed"),
        ("sparse attribute", "sparse weights are not allowed"),
    ],
)
def test_weights_outside_the_file(repository: Path, place: str, reason: str) -> None:
    secret = TensorProto(
        name="w",
        data_type=TensorProto.FLOAT,
        dims=[1],
        data_location=TensorProto.EXTERNAL,
        external_data=[{"key": "location", "value": "../../../etc/passwd"}],
    )
    write_graph(
        repository,
        "reader",
        1,
        [helper.make_node("Mul", ["images", "one"], ["denoised"])],
        [numpy_helper.from_array(np.float32(1), "one")],
    )
    folder = repository / "reader" / "1"
    graph = helper.make_graph(
        [helper.make_node("Mul", ["images", "w"], ["denoised"])],
        "reader",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 32, 32, 1])],
        [helper.make_tensor_value_info("denoised", TensorProto.FLOAT, ["batch", 32, 32, 1])],
        [secret] if place == "initializer" else [],
    )
    if place == "sparse initializer":
        graph.sparse_initializer.add(dims=[1]).values.CopyFrom(secret)
    if place == "sparse attribute":
        graph.node.add(op_type="Constant", output=["w"]).attribute.add(
            name="sparse_value", type=AttributeProto.SPARSE_TENSOR
        ).sparse_tensor.values.CopyFrom(secret)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    replace_file(folder, "denoise.onnx", model.SerializeToString())
    assert reason in refusal(repository, "reader", "invalid")


def test_every_golden_model_is_welcome() -> None:
    with serving(GOLDEN, poll_seconds=0, strict_readiness=True) as served:
        assert not served.app.table.snapshot.unavailable
