"""The first check: a graph's form, before anything runs it."""

from collections.abc import Collection
from typing import Any, cast

import onnx
from autoencoder.v1.model_pb2 import Signature
from onnx import ModelProto

from bundle.errors import BundleError
from bundle.graph import OPSET, problems, read_graph

IR_VERSION = 10


def form_problems(graph: bytes, signature: Signature, opsets: Collection[int] = (OPSET,)) -> list[str]:
    """What makes the bytes of an ONNX file unfit for a signature, one sentence each; none when they are fit."""
    try:
        read = read_graph(graph)
    except BundleError as error:
        return [str(error)]
    found = problems(read, signature, opsets)
    if read.ir_version > IR_VERSION:
        found.append(f"wanted IR version {IR_VERSION} at most, got {read.ir_version}")
    return found or _checker_problems(graph)


def stripped(model: ModelProto) -> ModelProto:
    """The model without notes: the exporter writes absolute paths of source files into every node."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def _checker_problems(graph: bytes) -> list[str]:
    try:
        model = onnx.load_model_from_string(graph)
        cast("Any", onnx.checker).check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # noqa: BLE001 (whatever onnx raises, from C++ or protobuf, is a verdict)
        return [f"onnx refuses the graph: {' '.join(str(error).split())[:500]}"]
    return []
