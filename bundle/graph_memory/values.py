"""Numbers of small tensors, computed as ONNX does: what reshapes, slices and resizes take their sizes from."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from bundle.graph_memory.node import DTYPES, Node, Shape, Value, tensor_of

_Compute: TypeAlias = Callable[[Node, Shape, Sequence[Value]], Value]


def _cast(node: Node, _: Shape, values: Sequence[Value]) -> Value:
    to = node.integer("to", 0)
    if to not in DTYPES:
        raise ValueError(f"expected a cast of sizes to a type that NumPy has, got {to}")
    return values[0].astype(DTYPES[to][0])


def _divide(_: Node, __: Shape, values: Sequence[Value]) -> Value:
    a, b = values
    if a.dtype.kind == "f":
        return a / b
    # Integers are divided towards zero.
    return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))


def _concat(node: Node, _: Shape, values: Sequence[Value]) -> Value:
    return np.concatenate(values, axis=node.integer("axis", 0))


def _gather(node: Node, _: Shape, values: Sequence[Value]) -> Value:
    return np.take(values[0], values[1].astype(np.int64), axis=node.integer("axis", 0))


def _slice(_: Node, __: Shape, values: Sequence[Value]) -> Value:
    data, starts, ends, *rest = values
    axes = rest[0] if rest else np.arange(len(starts))
    steps = rest[1] if len(rest) > 1 else np.ones(len(starts), int)
    places = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        places[int(axis)] = slice(int(start), int(end), int(step))
    return data[tuple(places)]


def _transpose(node: Node, _: Shape, values: Sequence[Value]) -> Value:
    return np.transpose(values[0], node.ints("perm", reversed(range(values[0].ndim))))


def _reduce(operation: Callable[..., Value]) -> _Compute:
    def compute(node: Node, _: Shape, values: Sequence[Value]) -> Value:
        axes = node.axes(1)
        if not axes and node.integer("noop_with_empty_axes", 0):
            return values[0]
        return operation(values[0], axis=tuple(axes) or None)

    return compute


def _all(operation: Callable[..., Value]) -> _Compute:
    def compute(_: Node, __: Shape, values: Sequence[Value]) -> Value:
        return operation(*values)

    return compute


def _fold(operation: Callable[[Value, Value], Value]) -> _Compute:
    def compute(_: Node, __: Shape, values: Sequence[Value]) -> Value:
        folded = values[0]
        for value in values[1:]:
            folded = operation(folded, value)
        return folded

    return compute


def _same(_: Node, __: Shape, values: Sequence[Value]) -> Value:
    return values[0]


def _broadcast(_: Node, shape: Shape, values: Sequence[Value]) -> Value:
    return np.broadcast_to(values[0], shape)


def _tile(_: Node, __: Shape, values: Sequence[Value]) -> Value:
    return np.tile(values[0], [int(times) for times in values[1]])


def _filled(node: Node, shape: Shape, _: Sequence[Value]) -> Value:
    value = node.attribute("value")
    known = tensor_of(value.t).value if value is not None else np.zeros(1, np.float32)
    if known is None:
        raise ValueError("expected a constant of one number")
    return np.full(shape, known.ravel()[0], known.dtype)


def _modulus(node: Node, _: Shape, values: Sequence[Value]) -> Value:
    return (np.fmod if node.integer("fmod", 0) else np.mod)(*values)


def _range(_: Node, shape: Shape, values: Sequence[Value]) -> Value:
    start, _limit, step = (value.ravel()[0] for value in values)
    return (start + step * np.arange(shape[0])).astype(values[0].dtype)


VALUES: dict[str, _Compute] = {
    "Abs": _all(np.abs),
    "Add": _all(np.add),
    "And": _all(np.logical_and),
    "Cast": _cast,
    "Ceil": _all(np.ceil),
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "Div": _divide,
    "Equal": _all(np.equal),
    "Expand": _broadcast,
    "Flatten": _same,
    "Floor": _all(np.floor),
    "Gather": _gather,
    "Greater": _all(np.greater),
    "GreaterOrEqual": _all(np.greater_equal),
    "Identity": _same,
    "Less": _all(np.less),
    "LessOrEqual": _all(np.less_equal),
    "Max": _fold(np.maximum),
    "Min": _fold(np.minimum),
    "Mod": _modulus,
    "Mul": _all(np.multiply),
    "Neg": _all(np.negative),
    "Not": _all(np.logical_not),
    "Or": _all(np.logical_or),
    "Pow": _all(np.power),
    "Range": _range,
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "Reshape": _same,
    "Round": _all(np.round),
    "Slice": _slice,
    "Sqrt": _all(np.sqrt),
    "Squeeze": _same,
    "Sub": _all(np.subtract),
    "Sum": _fold(np.add),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _same,
    "Where": _all(np.where),
}
"""Operators that take part in arithmetic of shapes; numbers that others make count as unknown."""
