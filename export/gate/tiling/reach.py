"""Which part of its input an operator needs for a part of its output, exactly, along height or width.

Only operators listed here are known (https://onnx.ai/onnx/operators/); any other sees the whole image.
"""

from collections.abc import Callable
from typing import TypeAlias

from export.gate.tiling.rearranging import gather, reshape, tile, transpose
from export.gate.tiling.sliding import (
    depth_to_space,
    pad,
    resize,
    sliced,
    space_to_depth,
    transposed_convolution,
    window,
)
from export.gate.tiling.step import Interval, SeesAllError, Step, at_same_position

_Rule: TypeAlias = Callable[[Step], Interval]


def needed(step: Step) -> Interval:
    """First and last index of the input that the needed part of the output depends on; beyond the edge is padding.

    Raises:
        SeesAllError: there is no bound that is known.
    """
    rule = _RULES.get(step.node.operator)
    if rule is None:
        raise SeesAllError("it may depend on the whole height and width")
    if step.before.is_merged != step.after.is_merged and rule is not reshape:
        raise SeesAllError("it joins height and width")
    if step.before.is_merged and rule in _SLIDING:
        raise SeesAllError("it works on height and width as one axis")
    return rule(step)


def _elementwise(step: Step) -> Interval:
    """Axes correspond from the last on, as in broadcasting."""
    sides = zip(step.shapes, (step.before, step.after), strict=True)
    if len({len(shape) - axis.position for shape, axis in sides}) > 1:
        raise SeesAllError("it combines height with another axis")
    return step.needed


def _along(step: Step) -> Interval:
    """Operators along one axis, which must be another."""
    if step.node.integer("axis", 0) % len(step.shapes[0]) == step.before.position:
        raise SeesAllError("it works along height or width")
    return at_same_position(step)


def _softmax(step: Step) -> Interval:
    if step.node.integer("axis", -1) % len(step.shapes[0]) == step.before.position:
        raise SeesAllError("it works along height or width")
    return at_same_position(step)


def _layer_normalisation(step: Step) -> Interval:
    if step.node.integer("axis", -1) % len(step.shapes[0]) <= step.before.position:
        raise SeesAllError("it normalises over height or width")
    return at_same_position(step)


def _batch_normalisation(step: Step) -> Interval:
    if step.before.position <= 1:
        raise SeesAllError("it takes height or width for channels")
    return at_same_position(step)


def _reduce(step: Step) -> Interval:
    node, rank = step.node, len(step.shapes[0])
    if node.operator.startswith("Arg"):
        axes = [node.integer("axis", 0)]
    else:
        axes = node.axes(1) or ([] if node.integer("noop_with_empty_axes", 0) else [*range(rank)])
    gone = {axis % rank for axis in axes}
    if step.before.position in gone:
        raise SeesAllError("it reduces height or width to one number")
    lower = 0 if node.integer("keepdims", 1) else sum(axis < step.before.position for axis in gone)
    if step.after.position != step.before.position - lower:
        raise SeesAllError("it moves height or width to another axis")
    return step.needed


def _matmul(step: Step) -> Interval:
    """Of two matrices, or stacks of them."""
    from_end = len(step.shapes[0]) - step.before.position
    if from_end == (1 if step.number == 0 else 2):
        raise SeesAllError("it adds up over height or width")
    return _elementwise(step)


_ELEMENTWISE = """
Abs Add And Cast Ceil Celu Clip Cos DequantizeLinear Div Elu Equal Erf Exp Expand Floor Gelu Greater GreaterOrEqual
HardSigmoid HardSwish Identity LeakyRelu Less LessOrEqual Log Max Min Mish Mod Mul Neg Not Or PRelu Pow QuantizeLinear
Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum Swish Tanh ThresholdedRelu Where Xor
"""
_REDUCTIONS = """
ArgMax ArgMin ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
"""
_RULES: dict[str, _Rule] = (
    dict.fromkeys(_ELEMENTWISE.split(), _elementwise)
    | dict.fromkeys(_REDUCTIONS.split(), _reduce)
    | dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), reshape)
    | {
        "AveragePool": window,
        "BatchNormalization": _batch_normalisation,
        "Concat": _along,
        "Conv": window,
        "ConvTranspose": transposed_convolution,
        "DepthToSpace": depth_to_space,
        "Gather": gather,
        "LayerNormalization": _layer_normalisation,
        "LogSoftmax": _softmax,
        "MatMul": _matmul,
        "MaxPool": window,
        "Pad": pad,
        "Resize": resize,
        "Slice": sliced,
        "Softmax": _softmax,
        "SpaceToDepth": space_to_depth,
        "Split": _along,
        "Tile": tile,
        "Transpose": transpose,
    }
)
_SLIDING = {window, transposed_convolution, depth_to_space, space_to_depth, resize, pad, sliced}
