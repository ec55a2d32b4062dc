"""The second check: every number in a graph is one of the checkpoint's; outputs cannot show all of them."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

Array = NDArray[Any]

# Shapes and scales of images, bounds, axes: nothing longer comes from the code, and a small bias could hide there.
_LONGEST_CONSTANT = 4
# The margins on both sides of four axes.
_LONGEST_ATTRIBUTE = 8
_PREFIX = "model."
_FOLDING_TOLERANCE = 1e-5


def weight_problems(graph: bytes, model: nn.Module) -> list[str]:
    """Initialisers of a graph that equal no tensor of the network, nor one with its batch norm folded in."""
    weights = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    found = list(_hidden_numbers(onnx.load_model_from_string(graph)))
    for initialiser in _tensors(onnx.load_model_from_string(graph)):
        came = numpy_helper.to_array(initialiser)
        wanted = weights.get(initialiser.name.removeprefix(_PREFIX))
        if wanted is None:
            found += _constant_problems(initialiser.name, came)
        elif not (_same(came, wanted) or any(_close(came, each) for each in _folded(initialiser.name, weights, model))):
            found.append(f"{initialiser.name} differs from the checkpoint by up to {_difference(came, wanted)}")
    return found


def unfit_weights(model: nn.Module) -> list[str]:
    """Names of the network's tensors that hold NaN or infinity."""
    tensors = model.state_dict().items()
    return [name for name, value in tensors if value.is_floating_point() and not bool(value.isfinite().all())]


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Initialisers, and what constants among the nodes hold."""
    yield from model.graph.initializer
    for node in model.graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _hidden_numbers(model: onnx.ModelProto) -> Iterator[str]:
    """Numbers that stand in a node without a tensor around them."""
    for node in model.graph.node:
        longest = max((max(len(each.floats), len(each.ints), len(each.tensors)) for each in node.attribute), default=0)
        if longest > _LONGEST_ATTRIBUTE:
            yield f"{node.op_type} {node.name} holds {longest} numbers that are no tensor of the checkpoint"


def _constant_problems(name: str, came: Array) -> list[str]:
    if came.size <= _LONGEST_CONSTANT:
        return []
    return [f"{name} {came.shape} is no tensor of the checkpoint"]


def _folded(name: str, weights: Mapping[str, Array], model: nn.Module) -> Iterator[Array]:
    """What a layer's weight or bias becomes when one of the network's batch norms is folded into it."""
    layer, _, kind = name.removeprefix(_PREFIX).rpartition(".")
    for norm, module in cast("Iterator[tuple[str, nn.Module]]", model.named_modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_var is not None:
            variance = weights[f"{norm}.running_var"].astype(np.float64)
            gain = weights.get(f"{norm}.weight", np.ones(len(variance))) / np.sqrt(variance + module.eps)
            shift = weights.get(f"{norm}.bias", 0.0) - weights[f"{norm}.running_mean"] * gain
            yield from _fold(weights[f"{layer}.{kind}"].astype(np.float64), kind, gain, shift)


def _fold(tensor: Array, kind: str, gain: Array, shift: Array) -> Iterator[Array]:
    if kind == "bias" and tensor.shape == gain.shape:
        yield tensor * gain + shift
    if kind == "weight":
        # Transposed convolutions have their outputs on the second axis.
        for axis in (0, 1):
            if tensor.ndim > axis and tensor.shape[axis] == len(gain):
                yield tensor * gain.reshape([-1 if each == axis else 1 for each in range(tensor.ndim)])


def _same(came: Array, wanted: Array) -> bool:
    return came.dtype == wanted.dtype and came.shape == wanted.shape and came.tobytes() == wanted.tobytes()


def _close(came: Array, wanted: Array) -> bool:
    if came.shape != wanted.shape:
        return False
    return bool(np.max(np.abs(came - wanted)) <= _FOLDING_TOLERANCE * max(float(np.max(np.abs(wanted))), 1e-30))


def _difference(came: Array, wanted: Array) -> str:
    if came.shape != wanted.shape:
        return f"its shape, {came.shape} instead of {wanted.shape}"
    return f"{np.max(np.abs(came.astype(np.float64) - wanted.astype(np.float64))):.3g}"
