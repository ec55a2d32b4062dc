"""Shapes and small numbers against ONNX's own examples of every operator, which its backends are tested with."""

import warnings
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper
from onnx.backend.test.case import node as examples

from bundle.graph import FOREIGN_OPSETS, OPERATORS
from bundle.graph_memory.node import MAX_VALUES, Node, Tensor, tensor_of
from bundle.graph_memory.operators import outputs
from bundle.graph_proto import parse

# No server can feed these types.
SKIPPED = ("FLOAT8", "FLOAT4", "INT4", "INT2", "FLOAT6", "BFLOAT16", "bfloat16", "STRING")
# Modules of onnx's examples whose operators change shapes; to make all of the others takes seconds.
RESHAPING = """
argmax argmin concat constantofshape conv convtranspose depthtospace einsum flatten gather gatherelements gathernd gemm
gru lppool lstm matmul mod onehot pad rangeop reduceprod reshape rnn scatternd shape size slice split squeeze tile
transpose trilu unsqueeze
"""


# Their first input says how large the output is; of the others it is the data.
SIZED = {"ConstantOfShape", "Range"}


def all_examples() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(examples.collect_testcases(None))


def some_examples() -> list[Any]:
    for name in RESHAPING.split():
        import_module(f"{examples.__name__}.{name}")
    return list(examples._NodeTestCases)


def known_here(cases: Iterable[Any]) -> Iterator[tuple[str, ModelProto, list[Any], list[Any]]]:
    for case in cases:
        allowed = {node.op_type for node in case.model.graph.node} <= OPERATORS
        version = next((each.version for each in case.model.opset_import if not each.domain), 0)
        if allowed and version >= FOREIGN_OPSETS[0] and not any(kind in case.name for kind in SKIPPED):
            yield from ((case.name, case.model, *data) for data in case.data_sets)


def made(model: ModelProto, values: list[Any]) -> dict[str, Tensor]:
    """Outputs by name; small integers count as known, as the sizes in a real graph are."""
    known: dict[str, Tensor] = {}
    sized = bool({node.op_type for node in model.graph.node} & SIZED)
    for place, (value, array) in enumerate(zip(model.graph.input, values, strict=True)):
        proto = numpy_helper.from_array(np.asarray(array), value.name)
        known[value.name] = tensor_of(proto) if place or sized else Tensor(np.shape(array))
    for node in model.graph.node:
        inputs = [known[name] if name else None for name in node.input]
        known |= dict(zip(node.output, outputs(Node(node, inputs)), strict=False))
    return known


def check(cases: Iterable[Any]) -> set[str]:
    """Compare them; the operators seen."""
    seen: set[str] = set()
    for name, model, given, expected in known_here(cases):
        if not all(isinstance(each, np.ndarray | np.generic) for each in (*given, *expected)):
            continue
        found = made(model, given)
        for value, array in zip(model.graph.output, expected, strict=True):
            assert found[value.name].shape == array.shape, name
            known = found[value.name].value
            if known is not None:
                np.testing.assert_allclose(known.astype(float), np.asarray(array, float), rtol=1e-4, err_msg=name)
        seen |= {node.op_type for node in model.graph.node}
    return seen


def test_shapes_and_numbers_are_those_of_onnx() -> None:
    assert len(check(some_examples())) >= len(RESHAPING.split())


@pytest.mark.slow
def test_shapes_and_numbers_of_every_operator() -> None:
    # Their examples of these have older opsets.
    assert OPERATORS - check(all_examples()) <= {"And", "GlobalLpPool", "Not", "Shrink", "Xor"}


def node(operator: str, inputs: int, outs: int = 1, **attributes: Any) -> Any:
    names = [f"i{index}" for index in range(inputs)]
    made = helper.make_node(operator, names, [f"o{index}" for index in range(outs)], **attributes)
    model = helper.make_model(helper.make_graph([made], "g", [], []))
    return parse(model.SerializeToString()).graph.node[0]


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        ("Reshape", [Tensor((4,)), Tensor((2,))]),
        ("Expand", [Tensor((1,)), Tensor((2,))]),
        ("Expand", [Tensor((1,)), Tensor((1,), np.array([-5]))]),
        ("Tile", [Tensor((1,)), Tensor((2,), np.array([1, 2]))]),
        ("Add", [Tensor((2,)), Tensor((3,))]),
        ("Concat", [None]),
        ("MatMul", [Tensor((2, 3))]),
        ("Resize", [Tensor((1, 1)), None, Tensor((2,), np.array([np.inf, 1], np.float32))]),
        ("Constant", []),
    ],
)
def test_what_cannot_be_known_is_an_error(operator: str, inputs: list[Tensor | None]) -> None:
    with pytest.raises((ValueError, IndexError, ArithmeticError, TypeError)):
        outputs(Node(node(operator, len(inputs)), inputs))


def test_large_numbers_are_not_kept() -> None:
    tensor = numpy_helper.from_array(np.zeros(5000, np.int64))
    assert tensor_of(tensor) == Tensor((5000,), None, constant=True)
    shape = Tensor((2,), np.array([100, 100]))
    assert outputs(Node(node("Expand", 2), [Tensor((1,), np.array([3])), shape])) == [Tensor((100, 100))]


@pytest.mark.parametrize(("count", "kept"), [(MAX_VALUES, True), (MAX_VALUES + 1, False)])
def test_a_tensor_of_numbers_has_a_limit(count: int, *, kept: bool) -> None:
    counts = Tensor((1,), np.array([count]))
    made = [
        tensor_of(numpy_helper.from_array(np.zeros(count, np.int64))),
        *outputs(Node(node("Constant", 0, value_ints=[0] * count), [])),
        *outputs(Node(node("Expand", 2), [Tensor((1,), np.array([0])), counts])),
        *outputs(Node(node("Tile", 2), [Tensor((1,), np.array([0])), counts])),
    ]
    assert [each.shape for each in made] == [(count,)] * 4
    assert [each.value is not None for each in made] == [kept] * 4
    assert MAX_VALUES == 1024


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value_int": 3}, 3),
        ({"value_ints": [1, 2]}, [1, 2]),
        ({"value_float": 0.5}, 0.5),
        ({"value_floats": [2.0]}, [2]),
    ],
)
def test_constants(attributes: dict[str, Any], expected: object) -> None:
    (found,) = outputs(Node(node("Constant", 0, **attributes), []))
    np.testing.assert_array_equal(found.value, expected)


def test_a_part_whose_size_depends_on_the_data_counts_as_the_whole() -> None:
    inputs = [Tensor((7, 5)), Tensor((2,), np.zeros(2, int)), Tensor((2,))]
    assert outputs(Node(node("Slice", 3), inputs)) == [Tensor((7, 5))]


def test_sizes_from_the_shape_of_the_batch() -> None:
    """As PyTorch's older exporter reshapes: Shape, Gather, Unsqueeze, Concat, Reshape."""
    text = (
        "g (float[b, 12] x) => (float[b, 3, 4] y) <int64 zero = {0}, int64[1] axis = {0}, int64[2] rest = {3, 4}>"
        "{ s = Shape(x) n = Gather(s, zero) u = Unsqueeze(n, axis) t = Concat<axis = 0>(u, rest) y = Reshape(x, t) }"
    )
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    proto = parse(model.SerializeToString()).graph
    known = {each.name: tensor_of(each) for each in proto.initializer} | {"x": Tensor((7, 12))}
    for each in proto.node:
        known |= dict(zip(each.output, outputs(Node(each, [known[name] for name in each.input])), strict=True))
    assert known["y"].shape == (7, 3, 4)
