"""Memory estimate of an ONNX graph by shape inference, before a runtime folds its constants or runs it.

A graph of a few hundred bytes can ask for any amount of memory: a constant joined to itself thirty times is 4 GiB.
All sizes are known once the batch is, since no allowed operator has outputs whose size depends on the data.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bundle.errors import BundleError
from bundle.graph_memory.node import Node, Shape, Tensor, tensor_of
from bundle.graph_memory.operators import outputs as made_by


class Estimate(NamedTuple):
    """Estimated bytes that a graph takes, and what it gives."""

    constants: int
    """Weights, and what a runtime computes of them when it loads the graph."""
    run: int
    """Of all other tensors that exist at one time of a run, the largest total."""
    outputs: dict[str, Shape]
    """Name to shape."""


def estimate(graph: Any, inputs: Mapping[str, Shape]) -> Estimate:  # noqa: ANN401 (made from a descriptor at run time)
    """Infer the shapes of a GraphProto; `inputs`: name to shape, the rows of the batch included.

    Raises:
        BundleError: the size of a tensor cannot be known before the graph runs.
    """
    known = {each.name: _weight(each) for each in graph.initializer}
    constants = sum(each.size_bytes for each in known.values())
    known |= {name: Tensor(shape) for name, shape in inputs.items()}
    last_use = {name: index for index, node in enumerate(graph.node) for name in node.input}
    last_use |= {each.name: len(graph.node) for each in graph.output}
    live = most = sum(known[name].size_bytes for name in inputs)
    for index, node in enumerate(graph.node):
        made = _made(node, known)
        known |= made
        constants += sum(each.size_bytes for each in made.values() if each.constant)
        live += sum(each.size_bytes for each in made.values() if not each.constant)
        most = max(most, live)
        for name in {*node.input, *made}:
            if name in known and not known[name].constant and last_use.get(name, index) == index:
                live -= known.pop(name).size_bytes
    outputs = {each.name: known[each.name].shape for each in graph.output if each.name in known}
    return Estimate(constants, most, outputs)


def infer(graph: Any, inputs: Mapping[str, Shape]) -> dict[str, Tensor]:  # noqa: ANN401 (likewise)
    """Shapes of all tensors of a GraphProto by name, with the numbers of those that sizes are computed from.

    Raises:
        BundleError: as `estimate`.
    """
    known = {each.name: _weight(each) for each in graph.initializer}
    known |= {name: Tensor(shape) for name, shape in inputs.items()}
    for node in graph.node:
        known |= _made(node, known)
    return known


def described(node: Any) -> str:  # noqa: ANN401 (likewise)
    """A node in words."""
    return f"node {str(node.name)[:80]!r}, operator {str(node.op_type)[:80]}"


def _weight(tensor: Any) -> Tensor:  # noqa: ANN401 (likewise)
    try:
        return tensor_of(tensor)
    except ValueError as error:
        raise BundleError(f"weights {str(tensor.name)[:80]}: {error}") from error


def _made(node: Any, known: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ANN401 (likewise)
    """A node's outputs by name."""
    missing = next((name for name in node.input if name and name not in known), None)
    if missing is not None:
        raise BundleError(f"{described(node)}: expected inputs that nodes before it make, got {missing[:80]!r}")
    inputs = [known[name] if name else None for name in node.input]
    try:
        with np.errstate(all="ignore"):
            found = made_by(Node(node, inputs))
    except (ValueError, LookupError, ArithmeticError, TypeError) as error:
        raise BundleError(f"{described(node)}: expected outputs of known sizes: {error}") from error
    constant = all(each is None or each.constant for each in inputs)
    made = zip(node.output, found, strict=False)
    return {name: each._replace(constant=constant) for name, each in made if name}
