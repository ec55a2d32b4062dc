"""The halo of a graph: how many cells around a tile its outputs depend on, from its operators, never guessed.

Walks from the outputs of one block of cells back to the input, with exact first and last indices of what each tensor
must give. Where a tensor is shorter than the input, as after a crop, less of a window is left to need.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm
from typing import Any

from autoencoder.v1.model_pb2 import Signature

from bundle.graph_memory.node import Node
from bundle.graph_proto import parse
from export.gate.tiling.axes import HEIGHT, WIDTH, Axis, Layout, UntileableError, layout
from export.gate.tiling.reach import needed
from export.gate.tiling.step import Interval, SeesAllError, Step

# Inputs of operators that say how long something is: what sizes are computed for.
_SIZES = {
    "Expand": {1},
    "Pad": {1, 3},
    "Reshape": {1},
    "Resize": {1, 2, 3},
    "Slice": {1, 2, 3, 4},
    "Split": {1},
    "Squeeze": {1},
    "Tile": {1},
    "Unsqueeze": {1},
}
# Of these, inputs that shift what lies in a tensor.
_PLACES = {"Pad": {1}, "Slice": {1, 4}}
# Far from the edges, so that no index is negative.
_BLOCK = 1000


@dataclass(frozen=True)
class Halo:
    """How a graph may be cut, in cells of its input."""

    halo: int
    """Cells on each side of a tile; a multiple of `multiple`."""
    multiple: int
    """Tiles begin at multiples of it."""
    reach: tuple[tuple[int, int], tuple[int, int]]
    """Along height and along width: cells before and after a block that its outputs depend on."""


def derive(graph: bytes, signature: Signature, multiple: int) -> Halo:
    """Derive the halo of a graph whose input is in multiples of `multiple` cells.

    Raises:
        UntileableError: an output depends on the whole image; names the node.
        BundleError: not an ONNX file, or the size of a tensor cannot be known before the graph runs.
    """
    model = parse(graph)
    found = layout(model.graph, signature, multiple)
    walk = _Walk(model.graph, found, [spec.name for spec in signature.inputs])
    origin = lcm(multiple, *(axis.scale.numerator for axis in walk.used_axes()))
    reach = walk.reach(HEIGHT, origin), walk.reach(WIDTH, origin)
    widest = max(0, *reach[HEIGHT], *reach[WIDTH])
    return Halo(ceil(Fraction(widest, origin)) * origin, origin, reach)


class _Walk:
    """A GraphProto, its tensors' axes, and which tensors depend on its inputs or only on their sizes."""

    def __init__(self, graph: Any, found: Layout, inputs: list[str]) -> None:  # noqa: ANN401 (made from a descriptor)
        self._graph = graph
        self._layout = found
        self._outputs = [each.name for each in graph.output]
        self._data = set(inputs)
        self._sizes: set[str] = set()
        for node in graph.node:
            self._classify(node)

    def used_axes(self) -> Iterator[Axis]:
        """Axes of height and width of all tensors that the outputs depend on."""
        for name in self._needed_names():
            yield from (axis for axis in self._layout.axes[name] if axis is not None and not axis.is_merged)

    def reach(self, way: int, origin: int) -> tuple[int, int]:
        """Cells before and after a block of `origin` cells that its outputs depend on.

        Raises:
            UntileableError: there is no bound.
        """
        start = _BLOCK * origin
        needs: dict[str, Interval | None] = {}
        for name in self._outputs:
            axis = self._layout.axes[name][way]
            needs[name] = None if axis is None else _block(axis, start, origin)
        for node in reversed(self._graph.node):
            for output in node.output:
                if output in needs:
                    self._visit(node, output, way, needs)
        before = after = Fraction(0)
        for name, interval in needs.items():
            axis = self._layout.axes[name][way]
            if interval is not None and axis is not None and not axis.is_merged:
                before = max(before, start - axis.scale * interval[0])
                after = max(after, axis.scale * (interval[1] + 1 - axis.offset) - (start + origin))
        return ceil(before), ceil(after)

    def _classify(self, node: Any) -> None:  # noqa: ANN401 (made from a descriptor)
        lengths = _SIZES.get(node.op_type, set[int]())
        content = {name for index, name in enumerate(node.input) if index not in lengths}
        if node.op_type == "Shape" or (content & self._sizes and not content & self._data):
            self._sizes.update(node.output)
        elif content & self._data or set(node.input) & self._sizes:
            # Of the image, or a plane of constants as large as it.
            self._data.update(node.output)

    def _needed_names(self) -> set[str]:
        names = set(self._outputs)
        for node in reversed(self._graph.node):
            if names & set(node.output):
                names |= {name for name in node.input if self._is_data(name)}
        return names

    def _is_data(self, name: str) -> bool:
        return name in self._data or any(self._layout.axes.get(name, (None, None)))

    def _visit(self, node: Any, output: str, way: int, needs: dict[str, Interval | None]) -> None:  # noqa: ANN401 (likewise)
        """Add what a node needs of its inputs for one of its outputs."""
        if output in self._layout.tangled:
            raise UntileableError.at(node, "height or width lies in several axes of its output, or grows unevenly")
        self._check_sizes(node)
        for index, name in enumerate(node.input):
            if not self._is_data(name) or index in _SIZES.get(node.op_type, ()):
                continue
            part = self._part(node, index, output, way, needs[output])
            known = needs.get(name)
            needs[name] = part if known is None or part is None else (min(known[0], part[0]), max(known[1], part[1]))

    def _check_sizes(self, node: Any) -> None:  # noqa: ANN401 (likewise)
        """Refuse a node that computes with sizes of the image."""
        allowed = _SIZES.get(node.op_type, set[int]())
        if any(name in self._sizes and index not in allowed for index, name in enumerate(node.input)):
            raise UntileableError.at(node, "it computes with the size of the image")
        if any(
            name in self._layout.varying and index in _PLACES.get(node.op_type, ())
            for index, name in enumerate(node.input)
        ):
            raise UntileableError.at(node, "where it pads or cuts depends on the size of the image")

    def _part(self, node: Any, index: int, output: str, way: int, wanted: Interval | None) -> Interval | None:  # noqa: ANN401 (likewise)
        name = node.input[index]
        before, after = self._layout.axes[name][way], self._layout.axes[output][way]
        if before is None:
            return None
        if after is None or wanted is None:
            raise UntileableError.at(node, "it may depend on the whole height and width")
        tensors = self._layout.tensors
        inputs = [tensors[each] if each else None for each in node.input]
        shapes = tensors[name].shape, tensors[output].shape
        try:
            return needed(Step(Node(node, inputs), index, way, before, after, shapes, wanted))
        except (SeesAllError, ValueError, IndexError) as error:
            raise UntileableError.at(node, str(error)) from error


def _block(axis: Axis, start: int, cells: int) -> Interval:
    """Indices of an axis that stand for `cells` cells from `start` on."""
    return ceil(start / axis.scale), ceil((start + cells) / axis.scale) - 1
