from pathlib import Path

import onnx
import pytest
from autoencoder.v1.model_pb2 import DATA_TYPE_FLOAT32, Signature, TensorSpec
from onnx import helper

from bundle import layout
from bundle.errors import BundleError
from bundle.graph import OLDEST_OPSET, OPERATORS, OPSET, problems, read_graph

GOLDEN = Path(__file__).parents[1] / "golden"
SIGNATURE = Signature(
    name="decode",
    inputs=[TensorSpec(name="latents", data_type=DATA_TYPE_FLOAT32, shape=[-1, 3])],
    outputs=[TensorSpec(name="images", data_type=DATA_TYPE_FLOAT32, shape=[-1, 3])],
)


def graph(
    body: str = "images = Relu(latents)",
    inputs: str = "float[batch, 3] latents",
    outputs: str = "float[batch, 3] images",
) -> bytes:
    text = f'<ir_version: 10, opset_import: ["" : 20, "other" : 1]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    if "other." not in body:
        del model.opset_import[1:]
    return model.SerializeToString()


def test_committed_graphs_are_read_as_onnx_reads_them() -> None:
    for path in sorted(GOLDEN.glob("*/1/*.onnx")):
        model, read = onnx.load(path), read_graph(path.read_bytes())
        assert (read.ir_version, read.opset) == (model.ir_version, OPSET)
        assert read.operators.total() == len(model.graph.node)
        assert {name for _, name in read.operators} == {node.op_type for node in model.graph.node}
        assert [port.name for port in read.inputs] == [each.name for each in model.graph.input]
        assert read.parameters == sum(onnx.numpy_helper.to_array(each).size for each in model.graph.initializer)


def test_committed_graphs_have_no_problems() -> None:
    for name in layout.model_names(GOLDEN):
        model = layout.read_model(GOLDEN / name / "1")
        for signature in model.signatures:
            assert problems(read_graph((GOLDEN / name / "1" / signature.file).read_bytes()), signature) == []


def test_every_operator_allowed_exists() -> None:
    assert {name for name in OPERATORS if not onnx.defs.has(name)} == set()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (graph("images = Dropout(latents)"), "operator Dropout is not allowed"),
        (graph("images = RandomNormalLike(latents)"), "operator RandomNormalLike is not allowed"),
        (graph("images = other.Relu(latents)"), "operator domain 'other' is not allowed"),
        (graph(inputs="float[2, 3] latents"), "input latents: wanted type 3 ('batch', 3), got 3 (2, 3)"),
        (graph(inputs="float[n, 3] latents"), "input latents: wanted type 3 ('batch', 3), got 3 ('n', 3)"),
        (graph(inputs="float[batch, 4] latents"), "input latents: wanted type 3 ('batch', 3), got 3 ('batch', 4)"),
        (graph(inputs="double[batch, 3] latents"), "input latents: wanted type 3 ('batch', 3), got 0 ('batch', 3)"),
        (graph(inputs="float[batch, 3] z", body="images = Relu(z)"), "wanted inputs ['latents'], got ['z']"),
        (
            graph(
                outputs="float[batch, 3] images, float[batch, 3] more",
                body="images = Relu(latents) more = Relu(latents)",
            ),
            "wanted outputs ['images'], got ['images', 'more']",
        ),
    ],
)
def test_problems(data: bytes, problem: str) -> None:
    assert problem in problems(read_graph(data), SIGNATURE)


def test_a_sound_graph_has_no_problems() -> None:
    assert problems(read_graph(graph()), SIGNATURE) == []


def test_opsets() -> None:
    model = onnx.load_model_from_string(graph())
    model.opset_import[0].version = 17
    read = read_graph(model.SerializeToString())
    assert problems(read, SIGNATURE) == ["wanted opset 20, got 17"]
    assert problems(read, SIGNATURE, range(OLDEST_OPSET, OPSET)) == []


def test_what_is_hidden_is_found() -> None:
    model = onnx.load_model_from_string(graph())
    inner = helper.make_graph([], "inner", [], [])
    tensor = onnx.numpy_helper.from_array(onnx.numpy_helper.np.zeros(2), "w")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    model.graph.node[0].attribute.append(helper.make_attribute("body", inner))
    model.graph.node[0].attribute.append(helper.make_attribute("value", tensor))
    model.functions.append(helper.make_function("d", "f", [], [], [], []))
    found = problems(read_graph(model.SerializeToString()), SIGNATURE)
    assert "a graph within a graph is not allowed" in found
    assert "weights outside the file are not allowed" in found
    assert "functions, training steps and sparse weights are not allowed" in found


@pytest.mark.parametrize("data", [b"", b"text", b"\xff" * 50, graph()[:-30], b"\x08\x0a"])
def test_what_is_no_onnx_file(data: bytes) -> None:
    with pytest.raises(BundleError, match="wanted an ONNX file"):
        read_graph(data)
