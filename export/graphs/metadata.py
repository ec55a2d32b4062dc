"""Removes metadata from ONNX models; needs no torch."""

from onnx import ModelProto


def stripped(model: ModelProto) -> ModelProto:
    """The model without metadata: the exporter writes absolute paths of source files into every node."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    return model
