"""A node of a graph on the way from its outputs back to its input, and what it may answer."""

from typing import NamedTuple, TypeAlias

from bundle.graph_memory.node import Node, Shape
from export.gate.tiling.axes import Axis

Interval: TypeAlias = tuple[int, int]
"""First and last index along an axis."""


class Step(NamedTuple):
    """A node seen from one of its inputs, along height or width."""

    node: Node
    number: int
    """Of the input."""
    way: int
    """HEIGHT or WIDTH."""
    before: Axis
    """In the input."""
    after: Axis
    """In the output."""
    shapes: tuple[Shape, Shape]
    """Of input and output, at one size."""
    needed: Interval
    """Of the output."""


class SeesAllError(Exception):
    """The operator sees the whole image, or moves it in a way that no rule knows."""


def at_same_position(step: Step) -> Interval:
    """The needed part, where height or width stays the axis that it was.

    Raises:
        SeesAllError: it does not.
    """
    if step.before.position != step.after.position:
        raise SeesAllError("it moves height or width to another axis")
    return step.needed
