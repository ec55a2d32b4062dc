"""Reach of operators that compute nothing: they move, split, join and pick."""

from collections.abc import Iterator, Sequence
from math import prod

from bundle.graph_memory.node import Shape
from export.gate.tiling.step import Interval, SeesAllError, Step, at_same_position

# Height and width on one side of a reshape, and the one axis of both on the other.
_JOINED = 3


def gather(step: Step) -> Interval:
    """Along another axis, or with an index for each pixel, as in a look-up of codes."""
    node = step.node
    indices, axis = node.shape(1), node.integer("axis", 0) % len(node.shape(0))
    if step.number == 1:
        expected = axis + step.before.position
    else:
        if axis == step.before.position:
            raise SeesAllError("it picks rows or columns")
        expected = step.before.position + (len(indices) - 1 if axis < step.before.position else 0)
    if step.after.position != expected:
        raise SeesAllError("it moves height or width to another axis")
    return step.needed


def transpose(step: Step) -> Interval:
    """Axes in another order."""
    order = step.node.ints("perm", reversed(range(len(step.shapes[0]))))
    if order[step.after.position] != step.before.position:
        raise SeesAllError("it exchanges height and width")
    return step.needed


def tile(step: Step) -> Interval:
    """Repeated along other axes."""
    if step.node.integers(1)[step.before.position] != 1:
        raise SeesAllError("it repeats the image")
    return at_same_position(step)


def reshape(step: Step) -> Interval:
    """An axis may be split from those after it, or joined with them; what lies before it must stay."""
    for old, new in _blocks(*step.shapes):
        if step.before.position in old and step.after.position in new:
            break
    else:
        raise SeesAllError("it mixes height or width with other axes")
    if step.before.is_merged or step.after.is_merged:
        apart = new if step.before.is_merged else old
        if len(old) + len(new) > _JOINED or (
            len(apart) > 1 and apart[step.way] not in {step.before.position, step.after.position}
        ):
            raise SeesAllError("it mixes height or width with other axes")
        return step.needed
    outer, inner = _around(step.shapes[0], old, step.before.position)
    outer_after, inner_after = _around(step.shapes[1], new, step.after.position)
    if outer != outer_after:
        raise SeesAllError("it mixes height or width with other axes")
    first, last = step.needed
    return first * inner_after // inner, (last * inner_after + inner_after - 1) // inner


def _blocks(before: Shape, after: Shape) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Positions that a reshape leaves together: the shortest runs of both shapes with the same number of elements."""
    old = [position for position, size in enumerate(before) if size != 1]
    new = [position for position, size in enumerate(after) if size != 1]
    while old and new:
        left, right = 1, 1
        while prod(before[each] for each in old[:left]) != prod(after[each] for each in new[:right]):
            if prod(before[each] for each in old[:left]) < prod(after[each] for each in new[:right]):
                left += 1
            else:
                right += 1
        yield old[:left], new[:right]
        old, new = old[left:], new[right:]


def _around(shape: Shape, block: Sequence[int], position: int) -> tuple[int, int]:
    """Elements of a block before and after a position."""
    place = block.index(position)
    return prod(shape[each] for each in block[:place]), prod(shape[each] for each in block[place + 1 :])
