import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bundle.errors import BundleError
from bundle.graph_memory.estimate import Estimate, estimate
from bundle.graph_proto import parse


def estimated(text: str, rows: int = 2, opset: int = 17, **weights: np.ndarray) -> Estimate:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return estimate(parse(model.SerializeToString()).graph, {"x": (rows, 10)})


def test_tensors_count_while_they_exist() -> None:
    """Each of 2 x 10 numbers of 4 bytes: two at a time, as x is gone when c is made."""
    body = "g (float[b, 10] x) => (float[b, 10] d) { a = Relu(x) c = Relu(a) d = Relu(c) }"
    assert estimated(body) == Estimate(0, 2 * 80, {"d": (2, 10)})


def test_a_tensor_that_is_needed_later_stays() -> None:
    body = "g (float[b, 10] x) => (float[b, 10] d) { a = Relu(x) c = Relu(a) d = Add(c, x) }"
    assert estimated(body) == Estimate(0, 3 * 80, {"d": (2, 10)})


def test_weights_and_what_is_made_of_them_stay() -> None:
    body = "g (float[b, 10] x) => (float[b, 5] y) { t = Transpose(w) y = MatMul(x, t) }"
    assert estimated(body, w=np.zeros((5, 10), np.float32)) == Estimate(2 * 200, 80 + 40, {"y": (2, 5)})


DOUBLED = "".join(f"c{index + 1} = Concat<axis = 0>(c{index}, c{index}) " for index in range(30))
BOMBS = {
    "joined to itself": (f"{{ c0 = Constant<value_floats = [1.0]>() {DOUBLED} s = ReduceSum(c30) y = Add(x, s) }}", {}),
    "tiled": ("{ c = Tile(w, n) s = ReduceSum(c) y = Add(x, s) }", {"n": np.array([2**30])}),
    "expanded": ("{ c = Expand(w, n) s = ReduceSum(c) y = Add(x, s) }", {"n": np.array([2**20, 2**20])}),
    "expanded to a size that is computed": (
        "{ m = Mul(n, n) c = Expand(w, m) s = ReduceSum(c) y = Add(x, s) }",
        {"n": np.array([2**20])},
    ),
    "padded": ("{ c = Pad(w, n) s = ReduceSum(c) y = Add(x, s) }", {"n": np.array([0, 2**31])}),
    "outer product": (
        "{ t = Transpose(v) c = MatMul(t, v) s = ReduceSum(c) y = Add(x, s) }",
        {"v": np.zeros((1, 2**16), np.float32)},
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_constants_that_multiply(name: str) -> None:
    body, more = BOMBS[name]
    weights = {"w": np.ones(1, np.float32), **more}
    assert estimated(f"g (float[b, 10] x) => (float[b, 10] y) {body}", **weights).constants > 2**32


def test_rows_that_multiply() -> None:
    sizes = 's = Reshape(x, shape) r = Resize<mode = "nearest">(s, , scales) t = ReduceSum(r) y = Mul(x, t)'
    weights = {"shape": np.array([-1, 1, 10, 1]), "scales": np.array([1, 1, 1e4, 1e4], np.float32)}
    assert estimated(f"g (float[b, 10] x) => (float[b, 10] y) {{ {sizes} }}", **weights).run > 2**32


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("{ y = Add(x, nothing) }", "expected inputs that nodes before it make, got 'nothing'"),
        ("{ i = Cast<to = 7>(x) y = Expand(x, i) }", "expected outputs of known sizes: input 1 is known only when"),
        ("{ s = Shape(x) c = Cast<to = 16>(s) y = Identity(x) }", "expected a cast of sizes to a type that .*, got 16"),
        ('{ y = Einsum<equation = "ab->cab">(x) }', "expected an output of letters of the inputs, got 'c'"),
    ],
)
def test_sizes_that_are_not_known(body: str, problem: str) -> None:
    with pytest.raises(BundleError, match=problem):
        estimated(f"g (float[b, 10] x) => (float[b, 10] y) {body}")


def test_weights_of_more_numbers_than_they_hold_count_as_declared() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[b, 10] x) => (float[b, 10] y) { y = Add(x, w) }'
    )
    model.graph.initializer.append(onnx.TensorProto(name="w", data_type=1, dims=[2**40, 10]))
    assert estimate(parse(model.SerializeToString()).graph, {"x": (1, 10)}).constants > 2**40
    model.graph.initializer[0].dims[0] = -1
    with pytest.raises(BundleError, match="weights w: expected sizes from 0"):
        estimate(parse(model.SerializeToString()).graph, {"x": (1, 10)})
