"""Structure of a graph, checked with onnx before anything runs it."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from export.gate.checks import Check, CheckedBundle, Finding, crash_refused


def checker_problems(graph: bytes) -> list[str]:
    """What onnx's checker and its strict shape inference refuse in a graph."""
    try:
        model = onnx.load_model_from_string(graph)
        cast("Any", onnx.checker).check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # noqa: BLE001 (whatever onnx raises, from C++ or protobuf, is a refusal)
        return [f"onnx refuses the graph: {' '.join(str(error).split())[:500]}"]
    return []


def bound_problems(graph: bytes, output: str, bounds: tuple[float, float], *, narrower: bool = False) -> list[str]:
    """What is wrong where an output should be clipped to bounds last of all: no trained network drives it there.

    Eight bits saturate instead, at the ends of their scale, which lie within the bounds; with `narrower`, so may those
    of a clip: where a network clips too, the exporter makes one of both.
    """
    model = onnx.load_model_from_string(graph)
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    maker = makers.get(output)
    while maker is not None and maker.op_type in {"Cast", "Identity", "Transpose"}:
        maker = makers.get(maker.input[0])
    found = None if maker is None else _range(maker, constants)
    within = narrower or (maker is not None and maker.op_type == "DequantizeLinear")
    if found == bounds or (within and found is not None and bounds[0] <= found[0] <= found[1] <= bounds[1]):
        return []
    got = "no bounds" if found is None else f"bounds {found[0]:g} and {found[1]:g}"
    return [f"output {output}: expected it clipped to {bounds[0]:g} … {bounds[1]:g} last of all, got {got}"]


def _onnx_checker(bundle: CheckedBundle) -> Iterator[Finding]:
    for name, graph in bundle.graphs.items():
        with crash_refused("structure", name):
            found = bundle.sandbox.run(checker_problems, graph)
        yield Finding(name, "; ".join(found), passed=not found)


def _range(node: NodeProto, constants: Mapping[str, NDArray[Any]]) -> tuple[float, float] | None:
    """The smallest and the largest number that a node can give, where its form says so."""
    ends = [constants[name] for name in node.input[1:] if name in constants]
    if node.op_type not in {"Clip", "DequantizeLinear"} or len(ends) != 2 or any(each.size != 1 for each in ends):  # noqa: PLR2004 (both ends, or scale and zero point)
        return None
    if node.op_type == "Clip":
        return float(ends[0].item()), float(ends[1].item())
    scale, zero = float(ends[0].item()), int(ends[1].item())
    kind = np.iinfo(ends[1].dtype)
    return (kind.min - zero) * scale, (kind.max - zero) * scale


ONNX_CHECKER = Check("structure", _onnx_checker)
"""onnx's own checker and strict shape inference pass."""
