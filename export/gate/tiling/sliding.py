"""Reach of operators whose windows slide over height and width, or that scale, pad or cut them."""

from fractions import Fraction
from math import ceil, floor

from bundle.graph_memory.node import Node
from export.gate.tiling.step import Interval, SeesAllError, Step, at_same_position

_BEFORE_SPATIAL_AXES = 2


def _spatial(step: Step) -> int:
    """Number of the axis among those that a window slides over."""
    if step.number or step.before.position != step.after.position or step.before.position < _BEFORE_SPATIAL_AXES:
        raise SeesAllError("height and width are not where windows slide")
    return step.before.position - _BEFORE_SPATIAL_AXES


def window(step: Step) -> Interval:
    """Convolutions and pooling."""
    axis, node = _spatial(step), step.node
    spatial = len(step.shapes[0]) - _BEFORE_SPATIAL_AXES
    kernel = node.ints("kernel_shape") or node.shape(1)[_BEFORE_SPATIAL_AXES:]
    stride = node.ints("strides", [1] * spatial)[axis]
    dilation = node.ints("dilations", [1] * spatial)[axis]
    reach = dilation * (kernel[axis] - 1)
    margin = _pad_before(node, axis, spatial, (step.shapes[0][step.before.position], stride, reach))
    first, last = step.needed
    return first * stride - margin, last * stride - margin + reach


def _pad_before(node: Node, axis: int, spatial: int, sizes: tuple[int, int, int]) -> int:
    size, stride, reach = sizes
    automatic = node.text("auto_pad", "NOTSET")
    if automatic == "NOTSET":
        return node.ints("pads", [0] * 2 * spatial)[axis]
    if automatic == "VALID":
        return 0
    total = max((ceil(size / stride) - 1) * stride + reach + 1 - size, 0)
    return total // 2 if automatic == "SAME_UPPER" else total - total // 2


def transposed_convolution(step: Step) -> Interval:
    """ConvTranspose."""
    axis, node = _spatial(step), step.node
    spatial = len(step.shapes[0]) - _BEFORE_SPATIAL_AXES
    if node.text("auto_pad", "NOTSET") != "NOTSET" or node.ints("output_shape"):
        raise SeesAllError("its padding follows from the size of its output")
    kernel = node.ints("kernel_shape") or node.shape(1)[_BEFORE_SPATIAL_AXES:]
    stride = node.ints("strides", [1] * spatial)[axis]
    reach = node.ints("dilations", [1] * spatial)[axis] * (kernel[axis] - 1)
    margin = node.ints("pads", [0] * 2 * spatial)[axis]
    first, last = step.needed
    return -((reach - first - margin) // stride), (last + margin) // stride


def depth_to_space(step: Step) -> Interval:
    """Channels to pixels."""
    _spatial(step)
    block = step.node.integer("blocksize", 1)
    return step.needed[0] // block, step.needed[1] // block


def space_to_depth(step: Step) -> Interval:
    """Pixels to channels."""
    _spatial(step)
    block = step.node.integer("blocksize", 1)
    return step.needed[0] * block, step.needed[1] * block + block - 1


def resize(step: Step) -> Interval:
    """Nearest and linear, by a whole factor or its inverse."""
    _spatial(step)
    node, factor = step.node, step.before.scale / step.after.scale
    mode = node.text("mode", "nearest")
    if (
        mode not in {"nearest", "linear"}
        or node.integer("antialias", 0)
        or 1 not in {factor.numerator, factor.denominator}
    ):
        raise SeesAllError("expected nearest or linear resizing by a whole factor")
    transformation = node.text("coordinate_transformation_mode", "half_pixel")
    first, last = (_source(index, factor, transformation) for index in step.needed)
    if mode == "linear":
        return floor(first), ceil(last)
    return _nearest(first, node), _nearest(last, node)


def _source(index: int, factor: Fraction, transformation: str) -> Fraction:
    """Where an output index lies in the input."""
    if transformation == "asymmetric":
        return index / factor
    if transformation in {"half_pixel", "pytorch_half_pixel"}:
        return (index + Fraction(1, 2)) / factor - Fraction(1, 2)
    raise SeesAllError(f"coordinates by {transformation} depend on the size of the image")


def _nearest(place: Fraction, node: Node) -> int:
    half, rounding = Fraction(1, 2), node.text("nearest_mode", "round_prefer_floor")
    if rounding == "floor":
        return floor(place)
    if rounding == "ceil":
        return ceil(place)
    return floor(place + half) if rounding == "round_prefer_ceil" else ceil(place - half)


def pad(step: Step) -> Interval:
    """By constants, or from the edge on: beyond the edge of a window as beyond that of the image."""
    if step.node.text("mode", "constant") == "wrap":
        raise SeesAllError("it wraps around the image")
    axes = step.node.integers(3) if step.node.has(3) else [*range(len(step.shapes[0]))]
    rank, pads = len(step.shapes[0]), step.node.integers(1)
    before = {axis % rank: margin for axis, margin in zip(axes, pads, strict=False)}.get(step.before.position, 0)
    return step.needed[0] - before, step.needed[1] - before


def sliced(step: Step) -> Interval:
    """From an index that the size of the image does not change."""
    node, rank = step.node, len(step.shapes[0])
    starts = node.integers(1)
    axes = node.integers(3) if node.has(3) else [*range(len(starts))]
    steps = node.integers(4) if node.has(4) else [1] * len(starts)
    for axis, start, stride in zip(axes, starts, steps, strict=True):
        if axis % rank == step.before.position:
            if start < 0 or stride < 1:
                raise SeesAllError("it counts from the end of the image")
            return start + stride * step.needed[0], start + stride * step.needed[1]
    return at_same_position(step)
