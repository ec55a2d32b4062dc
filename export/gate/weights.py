"""Weights of a graph: every number must be one of the checkpoint's; outputs cannot show all of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

import numpy as np
import onnx
from onnx import numpy_helper
from torch import nn

from bundle.golden import Array

# Shapes and scales of images, bounds, axes: nothing longer comes from the code, and a small bias could hide there.
_LONGEST_CONSTANT = 4
# The margins on both sides of four axes, in whole numbers.
_LONGEST_MARGINS = 8
_PREFIX = "model."
_NEW_BIAS = ".weight_bias"
_FOLDING_TOLERANCE = 1e-5


def weight_problems(graph: bytes, model: nn.Module, computed: Callable[[], Iterable[Array]] = list) -> list[str]:
    """Initialisers of a graph that equal no tensor of the network, as it is or with a batch norm folded in.

    `computed` gives what the network makes of its weights alone, in float64: the exporter may have done so.
    """
    weights = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    found = list(_hidden_numbers(onnx.load_model_from_string(graph)))
    for initialiser in _tensors(onnx.load_model_from_string(graph)):
        got = numpy_helper.to_array(initialiser)
        name = initialiser.name.removeprefix(_PREFIX)
        # What the exporter calls the bias of a convolution that had none before a batch norm was folded in.
        is_new = name.endswith(_NEW_BIAS) and name.removesuffix("_bias") in weights
        expected = np.zeros(1, got.dtype) if is_new else weights.get(name)
        if expected is None:
            problems = _constant_problems(initialiser.name, got, weights)
            found += problems if problems and not any(_close(got, each) for each in computed()) else []
        elif not (_same(got, expected) or any(_close(got, each) for each in _folded(name, expected, weights, model))):
            found.append(f"{initialiser.name} differs from the checkpoint by up to {_difference(got, expected)}")
    return found


def unfit_weights(model: nn.Module) -> list[str]:
    """Names of the network's tensors that hold NaN or infinity."""
    tensors = model.state_dict().items()
    return [name for name, value in tensors if value.is_floating_point() and not bool(value.isfinite().all())]


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Initialisers, and the tensors of constant nodes."""
    yield from model.graph.initializer
    for node in model.graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _hidden_numbers(model: onnx.ModelProto) -> Iterator[str]:
    """Numbers in a node's attributes without a tensor around them."""
    for node in model.graph.node:
        longest = max((max(len(each.floats), len(each.ints), len(each.tensors)) for each in node.attribute), default=0)
        if longest > _LONGEST_MARGINS:
            yield f"{node.op_type} {node.name} holds {longest} numbers that are not a tensor of the checkpoint"


def _constant_problems(name: str, got: Array, weights: Mapping[str, Array]) -> list[str]:
    if got.size <= (_LONGEST_MARGINS if got.dtype == np.int64 else _LONGEST_CONSTANT):
        return []
    # The exporter renames what it reshapes or transposes.
    if any(_same(got.ravel(), form.ravel()) for each in weights.values() for form in (each, each.T)):
        return []
    return [f"{name} {got.shape} is not a tensor of the checkpoint"]


def _folded(name: str, tensor: Array, weights: Mapping[str, Array], model: nn.Module) -> Iterator[Array]:
    """What a layer's weight or bias becomes when one of the network's batch norms is folded into it."""
    kind = "bias" if name.endswith(_NEW_BIAS) else name.rpartition(".")[2]
    for norm, module in cast("Iterator[tuple[str, nn.Module]]", model.named_modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_var is not None:
            variance = weights[f"{norm}.running_var"].astype(np.float64)
            gain = weights.get(f"{norm}.weight", np.ones(len(variance))) / np.sqrt(variance + module.eps)
            shift = weights.get(f"{norm}.bias", 0.0) - weights[f"{norm}.running_mean"] * gain
            yield from _fold(tensor.astype(np.float64), kind, gain, shift)


def _fold(tensor: Array, kind: str, gain: Array, shift: Array) -> Iterator[Array]:
    if kind == "bias" and tensor.shape in {gain.shape, (1,)}:
        yield tensor * gain + shift
    if kind == "weight":
        # Transposed convolutions have their outputs on the second axis.
        for axis in (0, 1):
            if tensor.ndim > axis and tensor.shape[axis] == len(gain):
                yield tensor * gain.reshape([-1 if each == axis else 1 for each in range(tensor.ndim)])


def _same(got: Array, expected: Array) -> bool:
    return got.dtype == expected.dtype and got.shape == expected.shape and got.tobytes() == expected.tobytes()


def _close(got: Array, expected: Array) -> bool:
    if got.shape != expected.shape:
        return False
    return bool(np.max(np.abs(got - expected)) <= _FOLDING_TOLERANCE * max(float(np.max(np.abs(expected))), 1e-30))


def _difference(got: Array, expected: Array) -> str:
    if got.shape != expected.shape:
        return f"its shape, {got.shape} instead of {expected.shape}"
    return f"{np.max(np.abs(got.astype(np.float64) - expected.astype(np.float64))):.3g}"
