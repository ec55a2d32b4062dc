"""Shape inference of the allowed operators, opset 13 to 23 (https://onnx.ai/onnx/operators/), batch included.

Where the inputs hold a few numbers, which sizes are computed from, the outputs' numbers are computed too.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from bundle.graph_memory.images import IMAGE_RULES
from bundle.graph_memory.node import MAX_VALUES, Node, Shape, Tensor, tensor_of
from bundle.graph_memory.sequences import SEQUENCE_RULES
from bundle.graph_memory.values import VALUES


def outputs(node: Node) -> list[Tensor]:
    """Shapes of an operator's outputs, in its order.

    Raises:
        ValueError: they cannot be known, or its inputs do not fit each other. IndexError and others likewise.
    """
    if node.operator == "Constant":
        return [_constant(node)]
    if node.operator in {"Shape", "Size"}:
        return [_shape(node)]
    shapes = _shapes(node)
    if any(size < 0 for shape in shapes for size in shape):
        raise ValueError(f"got a negative size: {shapes[0][:8]}")
    values = node.values() if len(shapes) == 1 and math.prod(shapes[0]) <= MAX_VALUES else None
    compute = None if values is None else VALUES.get(node.operator)
    if values is None or compute is None:
        return [Tensor(shape) for shape in shapes]
    return [Tensor(shapes[0], np.asarray(compute(node, shapes[0], values)).reshape(shapes[0]))]


def _shapes(node: Node) -> list[Shape]:
    rule = _RULES.get(node.operator)
    if rule is not None:
        return rule(node)
    if node.operator.startswith("Reduce"):
        return [_reduced(node)]
    # Elementwise, with an input or weights that broadcast to the first; or normalisation.
    return [node.shape()] * node.outputs


def _constant(node: Node) -> Tensor:
    tensor = node.attribute("value")
    if tensor is not None:
        return tensor_of(tensor.t)
    for name, field in (("value_ints", "ints"), ("value_floats", "floats"), ("value_int", "i"), ("value_float", "f")):
        if (found := node.attribute(name)) is not None:
            number = getattr(found, field)
            value = np.array(number if field in {"i", "f"} else list(number))
            return Tensor(value.shape, value if value.size <= MAX_VALUES else None)
    raise ValueError("expected a constant of numbers")


def _shape(node: Node) -> Tensor:
    shape = node.shape()
    end = node.attribute("end")
    found = np.array(shape[node.integer("start", 0) : None if end is None else int(end.i)], np.int64)
    return Tensor((), np.array(np.prod(found))) if node.operator == "Size" else Tensor(found.shape, found)


def _layer_normalisation(node: Node) -> list[Shape]:
    shape = node.shape()
    axis = node.integer("axis", -1) % len(shape)
    means = (*shape[:axis], *[1] * len(shape[axis:]))
    return [shape, means, means][: node.outputs]


def _batch_normalisation(node: Node) -> list[Shape]:
    return [node.shape(), *[node.shape(1)] * (node.outputs - 1)]


def _broadcast(node: Node) -> list[Shape]:
    return [np.broadcast_shapes(*node.shapes())]


def _reduced(node: Node) -> Shape:
    shape, axes = node.shape(), node.axes(1)
    if not axes:
        if node.integer("noop_with_empty_axes", 0):
            return shape
        axes = [*range(len(shape))]
    gone = {axis % len(shape) for axis in axes}
    kept = node.integer("keepdims", 1)
    return tuple(1 if axis in gone else size for axis, size in enumerate(shape) if kept or axis not in gone)


def _arg_reduced(node: Node) -> list[Shape]:
    shape, axis = node.shape(), node.integer("axis", 0)
    kept = node.integer("keepdims", 1)
    return [(*shape[: axis % len(shape)], *([1] if kept else []), *shape[axis % len(shape) + 1 :])]


def _matmul(node: Node) -> list[Shape]:
    a, b = node.shape(0), node.shape(1)
    left = a if len(a) > 1 else (1, *a)
    right = b if len(b) > 1 else (*b, 1)
    rows = left[-2:-1] if len(a) > 1 else ()
    columns = right[-1:] if len(b) > 1 else ()
    return [(*np.broadcast_shapes(left[:-2], right[:-2]), *rows, *columns)]


def _gemm(node: Node) -> list[Shape]:
    a, b = node.shape(0), node.shape(1)
    return [(a[1 if node.integer("transA", 0) else 0], b[0 if node.integer("transB", 0) else 1])]


def _concat(node: Node) -> list[Shape]:
    shapes = node.shapes()
    axis = node.integer("axis", 0) % len(shapes[0])
    joined = [*shapes[0]]
    joined[axis] = sum(shape[axis] for shape in shapes)
    return [tuple(joined)]


def _split(node: Node) -> list[Shape]:
    shape = node.shape()
    axis = node.integer("axis", 0) % len(shape)
    if node.has(1):
        parts = node.integers(1)
    else:
        most = math.ceil(shape[axis] / node.outputs)
        ends = [min(most * index, shape[axis]) for index in range(node.outputs + 1)]
        parts = [end - start for start, end in pairwise(ends)]
    return [(*shape[:axis], part, *shape[axis + 1 :]) for part in parts]


def _slice(node: Node) -> list[Shape]:
    if any(node.has(index) and node.tensor(index).value is None for index in range(1, 5)):
        # The most that any run gives: how much is taken may depend on the data.
        return [node.shape()]
    sizes, starts, ends = [*node.shape()], node.integers(1), node.integers(2)
    axes = node.integers(3) if node.has(3) else [*range(len(starts))]
    steps = node.integers(4) if node.has(4) else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        sizes[axis] = len(range(*slice(start, end, step).indices(sizes[axis])))
    return [tuple(sizes)]


def _gather(node: Node) -> list[Shape]:
    shape = node.shape()
    axis = node.integer("axis", 0) % len(shape)
    return [(*shape[:axis], *node.shape(1), *shape[axis + 1 :])]


def _transpose(node: Node) -> list[Shape]:
    shape = node.shape()
    return [tuple(shape[axis] for axis in node.ints("perm", reversed(range(len(shape)))))]


def _reshape(node: Node) -> list[Shape]:
    shape, wanted = node.shape(), node.integers(1)
    if not node.integer("allowzero", 0):
        wanted = [shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    if -1 in wanted:
        rest = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = math.prod(shape) // rest if rest else 0
    return [tuple(wanted)]


def _flatten(node: Node) -> list[Shape]:
    shape = node.shape()
    axis = node.integer("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return [(math.prod(shape[:axis]), math.prod(shape[axis:]))]


def _squeeze(node: Node) -> list[Shape]:
    shape = node.shape()
    axes = {axis % len(shape) for axis in node.axes(1)} or {axis for axis, size in enumerate(shape) if size == 1}
    return [tuple(size for axis, size in enumerate(shape) if axis not in axes)]


def _unsqueeze(node: Node) -> list[Shape]:
    rank = len(node.shape()) + len(node.axes(1))
    new, old = {axis % rank for axis in node.axes(1)}, iter(node.shape())
    return [tuple(1 if axis in new else next(old) for axis in range(rank))]


def _expand(node: Node) -> list[Shape]:
    return [np.broadcast_shapes(node.shape(), tuple(node.integers(1)))]


def _tile(node: Node) -> list[Shape]:
    return [tuple(size * times for size, times in zip(node.shape(), node.integers(1), strict=True))]


def _pad(node: Node) -> list[Shape]:
    sizes, pads = [*node.shape()], node.integers(1)
    axes = node.integers(3) if node.has(3) else [*range(len(sizes))]
    for axis, before, after in zip(axes, pads, pads[len(axes) :], strict=False):
        sizes[axis] += before + after
    return [tuple(sizes)]


_BROADCASTING = """
Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mod Mul Or Pow Sub Sum Where Xor
"""
_RULES: dict[str, Callable[[Node], list[Shape]]] = (
    dict.fromkeys(_BROADCASTING.split(), _broadcast)
    | IMAGE_RULES
    | SEQUENCE_RULES
    | {
        "ArgMax": _arg_reduced,
        "ArgMin": _arg_reduced,
        "BatchNormalization": _batch_normalisation,
        "Concat": _concat,
        "Expand": _expand,
        "Flatten": _flatten,
        "Gather": _gather,
        "Gemm": _gemm,
        "LayerNormalization": _layer_normalisation,
        "MatMul": _matmul,
        "Pad": _pad,
        "Reshape": _reshape,
        "Slice": _slice,
        "Split": _split,
        "Squeeze": _squeeze,
        "Tile": _tile,
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
)
