"""What a graph is made of, read without the onnx package: its opset, its operator domains, where its weights lie."""

from collections.abc import Iterator
from functools import cache
from typing import Any, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from bundle.errors import BundleError

_DOMAINS = frozenset({"", "ai.onnx"})
_EXTERNAL = 1

# Messages of classes that exist at run time only.
_Part: TypeAlias = Any
_Field = descriptor_pb2.FieldDescriptorProto
# The part of onnx.proto (onnx 1.23) that matters here: message -> (field, number, type or message, repeated).
_MESSAGES: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "ModelProto": (
        ("graph", 7, "GraphProto", False),
        ("opset_import", 8, "OperatorSetIdProto", True),
        ("functions", 25, "FunctionProto", True),
    ),
    "OperatorSetIdProto": (("domain", 1, "string", False), ("version", 2, "int64", False)),
    "FunctionProto": (("name", 1, "string", False),),
    "GraphProto": (
        ("node", 1, "NodeProto", True),
        ("initializer", 5, "TensorProto", True),
        ("sparse_initializer", 15, "SparseTensorProto", True),
    ),
    "NodeProto": (
        ("op_type", 4, "string", False),
        ("attribute", 5, "AttributeProto", True),
        ("domain", 7, "string", False),
    ),
    "AttributeProto": (
        ("t", 5, "TensorProto", False),
        ("g", 6, "GraphProto", False),
        ("tensors", 10, "TensorProto", True),
        ("graphs", 11, "GraphProto", True),
        ("sparse_tensor", 22, "SparseTensorProto", False),
        ("sparse_tensors", 23, "SparseTensorProto", True),
    ),
    "SparseTensorProto": (("values", 1, "TensorProto", False), ("indices", 2, "TensorProto", False)),
    "TensorProto": (("name", 8, "string", False), ("data_location", 14, "int32", False)),
}
_SCALARS = {"string": _Field.TYPE_STRING, "int64": _Field.TYPE_INT64, "int32": _Field.TYPE_INT32}


def check_graph(name: str, data: bytes) -> int:
    """Refuse what could read files or run foreign code; the opset version.

    Raises:
        BundleError: no ONNX model, operators of a foreign domain, functions, or weights outside the file.
    """
    model: _Part = _model_class()()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise BundleError(f"{name}: wanted an ONNX model: {error}") from error
    foreign = sorted({node.domain for node in _nodes(model.graph)} - _DOMAINS)
    outside = sorted({tensor.name for tensor in _tensors(model.graph) if tensor.data_location == _EXTERNAL})
    if foreign or model.functions:
        raise BundleError(f"{name}: wanted operators of ONNX's own domain alone, got {foreign or 'functions'}")
    if outside:
        raise BundleError(f"{name}: wanted every weight inside the file, got external data for {', '.join(outside)}")
    versions = [opset.version for opset in model.opset_import if opset.domain in _DOMAINS]
    if not versions or not model.graph.node:
        raise BundleError(f"{name}: wanted an ONNX model with nodes and an opset, got neither or one")
    return int(versions[0])


def _nodes(graph: _Part) -> Iterator[_Part]:
    for node in graph.node:
        yield node
        for inner in _subgraphs(node):
            yield from _nodes(inner)


def _tensors(graph: _Part) -> Iterator[_Part]:
    yield from graph.initializer
    yield from _parts(graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            yield from _parts(attribute.sparse_tensors)
            yield from (attribute.t, attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
        for inner in _subgraphs(node):
            yield from _tensors(inner)


def _parts(sparse: _Part) -> Iterator[_Part]:
    for tensor in sparse:
        yield tensor.values
        yield tensor.indices


def _subgraphs(node: _Part) -> Iterator[_Part]:
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g


@cache
def _model_class() -> type[Message]:
    file = descriptor_pb2.FileDescriptorProto(name="hourglass/onnx_part.proto", package="hourglass.onnx_part")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            added = message.field.add(name=field, number=number)
            added.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            added.type = _SCALARS.get(kind, _Field.TYPE_MESSAGE)
            if kind not in _SCALARS:
                added.type_name = f".hourglass.onnx_part.{kind}"
    # A pool of its own: the name never meets other descriptors.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("hourglass.onnx_part.ModelProto"))
