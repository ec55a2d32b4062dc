"""Shape inference of operators on sequences and indices: recurrent cells, Einsum, gathering, ranges, one-hot codes."""

import math
from collections.abc import Callable

import numpy as np

from bundle.graph_memory.node import Node, Shape


def _recurrent(node: Node) -> list[Shape]:
    """RNN, GRU and LSTM: all states of the last layer, and the last one of each direction (LSTM: and its cell)."""
    first, second, _ = node.shape()
    hidden = node.integer("hidden_size", node.shape(2)[2])
    directions = 2 if node.text("direction", "forward") == "bidirectional" else 1
    if node.integer("layout", 0):
        states, last = (first, second, directions, hidden), (first, directions, hidden)
    else:
        states, last = (first, directions, second, hidden), (directions, second, hidden)
    return [states, last, last][: node.outputs]


def _einsum(node: Node) -> list[Shape]:
    equation = node.text("equation", "").replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(node.shapes()):
        raise ValueError(f"expected an equation of as many terms as inputs, got {equation[:60]!r}")
    sizes: dict[str, int] = {}
    common: Shape = ()
    for term, shape in zip(terms, node.shapes(), strict=True):
        before, dots, after = term.partition("...")
        end = len(shape) - len(after) if dots else len(before)
        common = np.broadcast_shapes(common, shape[len(before) : end])
        for letter, size in zip(before + after, (*shape[: len(before)], *shape[end:]), strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(f"{letter} is both {sizes[letter]} and {size}")
    if not arrow:
        letters = inputs.replace(",", "").replace("...", "")
        once = "".join(sorted(letter for letter in sizes if letters.count(letter) == 1))
        output = ("..." if "..." in inputs else "") + once
    before, dots, after = output.partition("...")
    if unknown := "".join(sorted({*before, *after} - sizes.keys())):
        raise ValueError(f"expected an output of letters of the inputs, got {unknown[:60]!r}")
    middle = common if dots else ()
    return [(*(sizes[each] for each in before), *middle, *(sizes[each] for each in after))]


def _gather_nd(node: Node) -> list[Shape]:
    data, indices = node.shape(0), node.shape(1)
    batch = node.integer("batch_dims", 0)
    return [(*indices[:-1], *data[batch + indices[-1] :])]


def _filled(node: Node) -> list[Shape]:
    return [tuple(node.integers(0))]


def _range(node: Node) -> list[Shape]:
    (start,), (limit,), (step,) = node.floats(0), node.floats(1), node.floats(2)
    return [(max(math.ceil((limit - start) / step), 0),)]


def _one_hot(node: Node) -> list[Shape]:
    shape, (depth,) = node.shape(), node.integers(1)
    axis = node.integer("axis", -1) % (len(shape) + 1)
    return [(*shape[:axis], depth, *shape[axis:])]


SEQUENCE_RULES: dict[str, Callable[[Node], list[Shape]]] = {
    "ConstantOfShape": _filled,
    "Einsum": _einsum,
    "GRU": _recurrent,
    "GatherElements": lambda node: [node.shape(1)],
    "GatherND": _gather_nd,
    "LSTM": _recurrent,
    "OneHot": _one_hot,
    "RNN": _recurrent,
    "Range": _range,
}
