"""Protobuf parser for ONNX files: the relevant fields of onnx.proto by their numbers.

So that the server needs no onnx package: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from bundle.errors import BundleError

# Message: field, number, type; * marks a repeated field. Messages that must be absent have no fields here.
_SCHEMA = {
    "Model": "ir_version 1 int64, graph 7 Graph, opset_import 8 *Opset, training_info 20 *Any, functions 25 *Any",
    "Opset": "domain 1 string, version 2 int64",
    "Graph": (
        "node 1 *Node, initializer 5 *Tensor, input 11 *Value, output 12 *Value, value_info 13 *Value, "
        "sparse_initializer 15 *Any"
    ),
    "Node": (
        "input 1 *string, output 2 *string, name 3 string, op_type 4 string, attribute 5 *Attribute, domain 7 string"
    ),
    "Attribute": (
        "name 1 string, f 2 float, i 3 int64, s 4 bytes, t 5 Tensor, g 6 Any, floats 7 *float, ints 8 *int64, "
        "tensors 10 *Tensor, graphs 11 *Any, sparse_tensor 22 Any, sparse_tensors 23 *Any"
    ),
    "Tensor": (
        "dims 1 *int64, data_type 2 int32, float_data 4 *float, int32_data 5 *int32, int64_data 7 *int64, "
        "name 8 string, raw_data 9 bytes, double_data 10 *double, external_data 13 *Any, data_location 14 int32"
    ),
    "Value": "name 1 string, type 2 Type",
    "Type": "tensor_type 1 TensorType",
    "TensorType": "elem_type 1 int32, shape 2 Shape",
    "Shape": "dim 1 *Dimension",
    "Dimension": "dim_value 1 int64, dim_param 2 string",
    "Any": "",
}


def _model_class() -> type[Any]:
    file = descriptor_pb2.FileDescriptorProto(name="bundle/onnx.proto", package="bundle.onnx", syntax="proto3")
    for message, fields in _SCHEMA.items():
        descriptor = file.message_type.add(name=message)
        for field in filter(None, fields.split(", ")):
            _add_field(descriptor, *field.split(" "))
    # In its own pool: the real onnx package may be loaded in the same process.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bundle.onnx.Model"))


def _add_field(descriptor: descriptor_pb2.DescriptorProto, name: str, number: str, kind: str) -> None:
    field = descriptor.field.add(name=name, number=int(number))
    repeated, kind = kind.startswith("*"), kind.removeprefix("*")
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind in _SCHEMA:
        field.type, field.type_name = field.TYPE_MESSAGE, f".bundle.onnx.{kind}"
    else:
        field.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


def _check_parts(data: bytes) -> None:
    """Count fields before they are parsed: an empty message is two bytes in the file, and a hundred in memory."""
    left, stack = _MAX_PARTS, [(0, len(data), "Model")]
    while stack:
        at, end, message = stack.pop()
        while at < end:
            left -= 1
            if left < 0:
                raise BundleError(f"expected an ONNX file of at most {_MAX_PARTS} nodes, attributes and other parts")
            key, at = _varint(data, at)
            kind = key & 7
            if kind == _LENGTH:
                size, at = _varint(data, at)
                inner = _INNER[message].get(key >> 3)
                if inner is not None:
                    stack.append((at, min(at + size, end), inner))
                at += size
            elif kind in _FIXED:
                at += _FIXED[kind]
            else:
                _, at = _varint(data, at)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of protobuf's wire format, and where the next begins.

    Raises:
        DecodeError: it is longer than any number. IndexError: the bytes end before it does.
    """
    number = data[at] & 0x7F
    shift = 7
    while data[at] > 0x7F:  # noqa: PLR2004 (the bit that says that more follow)
        if shift == 7 * _LONGEST_VARINT:
            raise DecodeError(f"expected numbers of at most {_LONGEST_VARINT} bytes, got a longer one")
        at += 1
        number |= (data[at] & 0x7F) << shift
        shift += 7
    return number, at + 1


def _inner(fields: str) -> dict[int, str]:
    parts = (field.split(" ") for field in filter(None, fields.split(", ")))
    return {int(number): kind.removeprefix("*") for _, number, kind in parts if kind.removeprefix("*") in _SCHEMA}


_MODEL = _model_class()
_INNER = {message: _inner(fields) for message, fields in _SCHEMA.items()}
# Wire types of protobuf: bytes of a known length, and numbers of eight and four bytes.
_LENGTH, _FIXED = 2, {1: 8, 5: 4}
_LONGEST_VARINT = 10
# Some ten times what a graph of thousands of nodes has.
_MAX_PARTS = 250_000


def parse(data: bytes) -> Any:  # noqa: ANN401 (made from a descriptor at run time)
    """Parse the bytes of an ONNX file as the message ModelProto, with the fields that are checked.

    Raises:
        BundleError: not an ONNX file, or one of very many parts.
    """
    model = _MODEL()
    try:
        _check_parts(data)
        model.ParseFromString(data)
    except (DecodeError, IndexError) as error:
        raise BundleError(f"expected an ONNX file, got {len(data)} bytes that are not one: {error}") from error
    if not model.graph.node:
        raise BundleError(f"expected an ONNX file, got {len(data)} bytes without a graph")
    return model
