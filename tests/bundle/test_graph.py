from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from autoencoder.v1.model_pb2 import DATA_TYPE_FLOAT32, Signature, TensorSpec
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from bundle import layout
from bundle.errors import BundleError
from bundle.graph import MAX_RUN_BYTES, OPERATORS, OPSET, check_graph, read_graph

GOLDEN = Path(__file__).parents[1] / "golden"
SIGNATURE = Signature(
    name="decode",
    file="decode.onnx",
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


def batch_normalization(attribute: str = "", outputs: str = "images") -> bytes:
    weights = " ".join(f"{name} = Constant <value = float[3] {{1, 1, 1}}> ()" for name in "sbmv")
    return graph(f"{weights} {outputs} = BatchNormalization {attribute} (latents, s, b, m, v)")


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
            check_graph((GOLDEN / name / "1" / signature.file).read_bytes(), signature, imported=False)


def test_every_operator_allowed_exists() -> None:
    assert {name for name in OPERATORS if not onnx.defs.has(name)} == set()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (graph("images = Dropout(latents)"), "operator Dropout is not allowed"),
        (
            batch_normalization("<training_mode = 1>"),
            "BatchNormalization in training mode is not allowed: call model.eval",
        ),
        (batch_normalization(outputs="images, p, q"), "BatchNormalization in training mode is not allowed"),
        (graph("images = RandomNormalLike(latents)"), "operator RandomNormalLike is not allowed"),
        (graph("images = other.Relu(latents)"), "operator Relu of domain 'other' is not allowed"),
        (graph(inputs="float[2, 3] latents"), "latents: expected float32 ('batch', 3), got float32 (2, 3)"),
        (graph(inputs="float[n, 3] latents"), "latents: expected float32 ('batch', 3), got float32 ('n', 3)"),
        (
            graph(inputs="float[batch, 4] latents"),
            "latents: expected float32 ('batch', 3), got float32 ('batch', 4)",
        ),
        (
            graph(inputs="double[batch, 3] latents"),
            "latents: expected float32 ('batch', 3), got unspecified ('batch', 3)",
        ),
        (graph(inputs="float[batch, 3] z", body="images = Relu(z)"), "expected inputs ['latents'], got ['z']"),
        (
            graph(
                outputs="float[batch, 3] images, float[batch, 3] more",
                body="images = Relu(latents) more = Relu(latents)",
            ),
            "expected outputs ['images'], got ['images', 'more']",
        ),
    ],
)
def test_problems(data: bytes, problem: str) -> None:
    assert problem in refusal(data)


def refusal(data: bytes, *, imported: bool = False) -> str:
    with pytest.raises(BundleError, match=r"^decode\.onnx: ") as refused:
        check_graph(data, SIGNATURE, imported=imported)
    return str(refused.value)


def test_a_sound_graph_has_no_problems() -> None:
    check_graph(batch_normalization(), SIGNATURE, imported=False)
    assert check_graph(graph(), SIGNATURE, imported=False) == read_graph(graph())


@pytest.mark.parametrize(("opset", "ours", "foreign"), [(12, 0, 0), (13, 0, 1), (20, 1, 1), (23, 0, 1), (24, 0, 0)])
def test_opsets(opset: int, ours: bool, foreign: bool) -> None:
    model = onnx.load_model_from_string(graph())
    model.opset_import[0].version = opset
    for imported, fits in ((False, ours), (True, foreign)):
        if fits:
            check_graph(model.SerializeToString(), SIGNATURE, imported=imported)
        else:
            assert f"got {opset}" in refusal(model.SerializeToString(), imported=imported)


def test_ir_versions() -> None:
    model = onnx.load_model_from_string(graph())
    model.ir_version = 11
    assert refusal(model.SerializeToString()).endswith("expected at most IR version 10, got 11")


def outside() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "w")
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


def hide_graph(model: ModelProto) -> None:
    """ONNX joins the two values of a field that is given twice; reading the last one alone shows an empty graph."""
    inner = helper.make_graph([helper.make_node("Loop", [], [])], "inner", [], [])
    attribute = helper.make_attribute("body", inner).SerializeToString() + b"\x32\x00"
    model.graph.node[0].attribute.append(AttributeProto.FromString(attribute))


def hide_sparse(model: ModelProto) -> None:
    attribute = model.graph.node[0].attribute.add(name="sparse_value", type=AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.values.CopyFrom(outside())


def store_twice(model: ModelProto) -> None:
    """The runtime takes the last of them."""
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(value), "w") for value in (1, 2))


HIDDEN: dict[str, Callable[[ModelProto], object]] = {
    "a graph within a graph is not allowed": hide_graph,
    "sparse weights are not allowed": hide_sparse,
    "weights outside the file are not allowed: w": lambda model: model.graph.node[0].attribute.append(
        helper.make_attribute("value", outside())
    ),
    "weights w are stored 2 times": store_twice,
    "functions and training steps are not allowed": lambda model: model.functions.append(
        helper.make_function("d", "f", [], [], [], [])
    ),
}


@pytest.mark.parametrize("problem", HIDDEN)
def test_what_is_hidden_is_found(problem: str) -> None:
    model = onnx.load_model_from_string(graph())
    HIDDEN[problem](model)
    assert problem in refusal(model.SerializeToString())


@pytest.mark.parametrize("data", [b"", b"text", b"\xff" * 50, graph()[:-30], b"\x08\x0a"])
def test_what_is_not_an_onnx_file(data: bytes) -> None:
    with pytest.raises(BundleError, match="expected an ONNX file"):
        read_graph(data)


def test_a_number_without_an_end_is_not_read_to_its_end() -> None:
    with pytest.raises(BundleError, match="expected numbers of at most 10 bytes"):
        read_graph(b"\x08" + b"\xff" * 1000)


def test_the_list_of_operators_is_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text()
    listed = page.partition("<!-- operators -->")[2].partition("\n\n")[0]
    assert set(listed.replace(",", " ").split()) == OPERATORS


def test_the_limit_of_memory_counts_constants_and_the_largest_batch() -> None:
    check_graph(graph(), SIGNATURE, imported=False, max_run_bytes=256 * 2 * 3 * 4)
    with pytest.raises(BundleError, match=r"expected at most 6000 bytes .* got about 6144: .* --max-run-bytes"):
        check_graph(graph(), SIGNATURE, imported=False, max_run_bytes=6000)
    assert MAX_RUN_BYTES == 8 * 1024**3


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda node: node.attribute.extend([helper.make_attribute("a", 1), helper.make_attribute("a", 2)]),
            "an attribute that is given twice is not allowed",
        ),
        (lambda node: setattr(node, "op_type", "TopK"), "operator TopK is not allowed: use ReduceMax"),
        (lambda node: setattr(node, "op_type", "Unheard"), "operator Unheard is not allowed"),
    ],
)
def test_what_a_node_must_not_have(change: Callable[[object], object], problem: str) -> None:
    model = onnx.load_model_from_string(graph())
    change(model.graph.node[0])
    assert problem in refusal(model.SerializeToString())


def test_a_domain_that_no_node_uses_may_be_declared() -> None:
    model = onnx.load_model_from_string(graph())
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    check_graph(model.SerializeToString(), SIGNATURE, imported=False)


@pytest.mark.parametrize("path", [(7, 1), (14,), (7, 11, 2, 1, 2, 1)])
def test_files_of_very_many_parts_are_refused_before_they_are_parsed(path: tuple[int, ...]) -> None:
    """Two bytes of a file would be a hundred in memory."""
    *outer, last = path
    data = bytes([last << 3 | 2, 0]) * 250_001
    for number in reversed(outer):
        data = bytes([number << 3 | 2, *varint(len(data))]) + data
    with pytest.raises(BundleError, match="at most 250000 nodes, attributes and other parts"):
        read_graph(data)


def test_as_many_parts_as_are_allowed_are_read() -> None:
    # Field 14, metadata_props, which nothing here reads; the graph itself has fewer than a hundred parts.
    assert read_graph(graph() + bytes([14 << 3 | 2, 0]) * 249_900).opset == OPSET


@pytest.mark.parametrize("more", [0, 1])
def test_constants_have_a_limit_that_grows_with_the_file(more: int) -> None:
    model = onnx.load_model_from_string(graph("c = Expand(w, n) s = ReduceSum(c) images = Add(latents, s)"))
    weights = {"w": np.ones(1, np.float32), "n": np.zeros(1, np.int64)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    # Four bytes a number: w, n and s have one each.
    most = 256 * 1024**2 + 16 * len(model.SerializeToString())
    count = np.array([most // 4 - 3 + more])
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(count, "n"))
    data = model.SerializeToString()
    if more:
        with pytest.raises(BundleError, match=f"expected constants of at most {most} bytes in a file of {len(data)}"):
            check_graph(data, SIGNATURE, imported=False)
    else:
        check_graph(data, SIGNATURE, imported=False)


def varint(number: int) -> bytes:
    more = b""
    while number > 0x7F:
        more += bytes([number & 0x7F | 0x80])
        number >>= 7
    return more + bytes([number])
