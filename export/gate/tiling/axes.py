"""Height and width in the tensors of a graph: which axes follow the image's size, and how.

Shapes are inferred for several sizes of the input. An axis that follows one of them is `cells / scale + offset` long.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

from autoencoder.v1.model_pb2 import Signature
from autoencoder.v1.shapes import FREE, Size

from bundle.graph_memory.estimate import described, infer
from bundle.graph_memory.node import Shape, Tensor

HEIGHT, WIDTH = 0, 1
# Sizes in multiples of the network's: unlike each other, with other remainders, and unlike all that is fixed.
_HEIGHTS = (53, 60, 67)
_WIDTHS = (71, 80, 97)
_ROWS = 3


class UntileableError(Exception):
    """A node through which an output depends on the whole image, or in another way than tiles could follow."""

    @classmethod
    def at(cls, node: Any, reason: str) -> "UntileableError":  # noqa: ANN401 (made from a descriptor at run time)
        """At a NodeProto."""
        return cls(f"{described(node)}: {reason}")


class Axis(NamedTuple):
    """Where height or width lies in a tensor."""

    position: int
    scale: Fraction
    """Cells of the graph's input for each index."""
    offset: Fraction
    """Indices beyond cells / scale, as padding adds them."""
    is_merged: bool
    """Whether height and width lie in one axis, row by row."""


Axes: TypeAlias = tuple[Axis | None, Axis | None]
"""Of height and of width; None where a tensor does not follow it."""


@dataclass(frozen=True)
class Layout:
    """Tensors by name: their inferred shapes at one size, and their axes."""

    tensors: Mapping[str, Tensor]
    axes: Mapping[str, Axes]
    tangled: frozenset[str]
    """Tensors in which height or width lies in several axes, or does not grow evenly with the image."""
    varying: frozenset[str]
    """Tensors of sizes whose numbers are others for other sizes of the input."""


def layout(graph: Any, signature: Signature, multiple: int) -> Layout:  # noqa: ANN401 (made from a descriptor)
    """Find the axes of all tensors of a GraphProto whose input is in multiples of `multiple` cells.

    Raises:
        BundleError: the size of a tensor cannot be known before the graph runs.
    """

    def tensors(height: int, width: int) -> dict[str, Tensor]:
        return infer(graph, _inputs(signature, (height * multiple, width * multiple)))

    tall, wide = _HEIGHTS[0], _WIDTHS[0]
    base = tensors(tall, wide)
    others = [[tensors(each, wide) for each in _HEIGHTS[1:]], [tensors(tall, each) for each in _WIDTHS[1:]]]
    cells = [[each * multiple for each in sizes] for sizes in (_HEIGHTS, _WIDTHS)]
    axes: dict[str, Axes] = {}
    tangled: set[str] = set()
    for name in base:
        shapes = [[base[name].shape, *(each[name].shape for each in some)] for some in others]
        followed = [_followed(some) for some in shapes]
        found = [
            [
                _axis(position, cells[way], shapes[way], is_merged=position in followed[1 - way])
                for position in positions
            ]
            for way, positions in enumerate(followed)
        ]
        if any(len(each) > 1 or None in each for each in found):
            tangled.add(name)
        axes[name] = found[0][0] if found[0] else None, found[1][0] if found[1] else None
    varying = {name for name in base if any(_differ(base[name], each[name]) for some in others for each in some)}
    return Layout(base, axes, frozenset(tangled), frozenset(varying))


def _differ(one: Tensor, other: Tensor) -> bool:
    """Whether the numbers of a tensor are known and differ."""
    if one.value is None or other.value is None:
        return one.value is not other.value
    return one.value.tobytes() != other.value.tobytes()


def _inputs(signature: Signature, size: Size) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for spec in signature.inputs:
        free = iter(size)
        shapes[spec.name] = (_ROWS, *(next(free) if each == FREE else each for each in spec.shape[1:]))
    return shapes


def _followed(shapes: list[Shape]) -> list[int]:
    """Positions whose size differs between the shapes."""
    return [position for position, sizes in enumerate(zip(*shapes, strict=False)) if len(set(sizes)) > 1]


def _axis(position: int, cells: list[int], shapes: list[Shape], *, is_merged: bool) -> Axis | None:
    """The axis at a position; None where its size does not grow evenly."""
    sizes = [shape[position] for shape in shapes]
    slopes = {Fraction(sizes[index] - sizes[0], cells[index] - cells[0]) for index in (1, 2)}
    if len(slopes) > 1 or (slope := slopes.pop()) <= 0:
        return None
    return Axis(position, 1 / slope, sizes[0] - cells[0] * slope, is_merged)
