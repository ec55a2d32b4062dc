"""Builds ONNX files from modules: the dynamo exporter, a dynamic batch, nothing of this machine in the bytes.

Height and width are symbols too where the network takes images of free sizes.
"""

import copy
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import torch
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT8, Signature, TensorSpec
from autoencoder.v1.shapes import FREE, Shapes
from torch import nn
from torch.nn.utils import parametrize

from bundle.graph import BATCH, OPSET
from export.errors import Failure, GateError
from export.graphs.metadata import stripped
from export.graphs.methods import Method, facts

_EXAMPLE_ROWS = 2


def folded(model: nn.Module) -> nn.Module:
    """Copy of a network with weight norm and other parametrisations computed once and for all."""
    copied = copy.deepcopy(model).requires_grad_(requires_grad=False)
    for module in list(copied.modules()):
        if parametrize.is_parametrized(module):
            _fold(module)
    return copied


def _fold(module: nn.Module) -> None:
    # torch's own remove_parametrizations changes the class, which the copy shares with the original.
    values: dict[str, torch.Tensor] = {
        name: getattr(module, name).detach() for name in cast("Any", module).parametrizations
    }
    del module.parametrizations
    # Weight norm's, for weights of its old form: nothing is loaded into a copy, and a local function cannot be sent.
    cast("Any", module)._load_state_dict_pre_hooks.clear()  # noqa: SLF001
    module.__class__ = type(module).__bases__[0]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def build(method: Method, signature: Signature) -> bytes:
    """One method to the bytes of its ONNX file.

    Raises:
        GateError: in training mode, or of a form that has no graph with a free batch, and free sizes if it has them.
    """
    if any(module.training for module in method.model.modules()):
        raise GateError("structure", [Failure(signature.name, "", "expected a module in eval mode, got training mode")])
    try:
        model = program(method, signature).model_proto
    except torch.onnx.OnnxExporterError as error:
        sizes = " and any height and width" if facts(method.model).shapes.free else ""
        reason = f"expected a graph for any batch{sizes}, the exporter refused: {_root(error)}"
        raise GateError("structure", [Failure(signature.name, "", reason)]) from error
    return stripped(model).SerializeToString(deterministic=True)


def program(method: Method, signature: Signature) -> Any:  # noqa: ANN401 (an ONNXProgram, whose parts have no types)
    """One method as the exporter gives it: `model_proto`, and `exported_program`, the traced network.

    Raises:
        torch.onnx.OnnxExporterError: the exporter refuses it.
    """
    export = cast("Any", torch.onnx).export
    with _quiet(), torch.no_grad():
        return export(
            method,
            examples(method, signature),
            dynamo=True,
            input_names=[spec.name for spec in signature.inputs],
            output_names=[spec.name for spec in signature.outputs],
            # Strings: with a torch.export.Dim the exporter may silently fix the batch.
            dynamic_shapes=tuple(_free_axes(spec) for spec in signature.inputs),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )


def examples(method: Method, signature: Signature) -> tuple[torch.Tensor, ...]:
    """Inputs of two rows for a method, all zero."""
    shapes, precision = facts(method.model).shapes, torch.promote_types(method.precision, torch.float32)
    return tuple(_example(spec, shapes, precision) for spec in signature.inputs)


def _example(spec: TensorSpec, shapes: Shapes, precision: torch.dtype) -> torch.Tensor:
    """Zeros to trace with; no two free axes have the same size, or the exporter could take them for one."""
    kind = torch.uint8 if spec.data_type == DATA_TYPE_UINT8 else precision
    tall = shapes.padded(max(shapes.minimum, 3 * shapes.multiple), 0)[0]
    sized = shapes.sized((tall, tall + shapes.multiple)).spec(spec.name)
    return torch.zeros((_EXAMPLE_ROWS, *sized[1:]), dtype=kind)


def _free_axes(spec: TensorSpec) -> dict[int, str]:
    prefix = "latent_" if spec.name == "latents" else ""
    names = BATCH, f"{prefix}height", f"{prefix}width"
    return {axis: name for axis, (name, size) in enumerate(zip(names, spec.shape, strict=False)) if size == FREE}


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def _quiet() -> Generator[None]:
    # The exporter warns of packages that it does not need and of its own deprecations.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
