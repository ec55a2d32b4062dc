"""What may stand in an ONNX graph that this project serves, checked on its bytes before a runtime sees them.

Reads the fields that matter of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) by their numbers,
so that the server needs no onnx package.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from autoencoder.v1.model_pb2 import (
    DATA_TYPE_FLOAT16,
    DATA_TYPE_FLOAT32,
    DATA_TYPE_INT64,
    DATA_TYPE_UINT8,
    DATA_TYPE_UNSPECIFIED,
    Signature,
    TensorSpec,
)
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from bundle.errors import BundleError

BATCH = "batch"
# What export writes. A graph made elsewhere may use any opset that the runtime knows well.
OPSET = 20
OLDEST_OPSET = 13
NEWEST_OPSET = 23

# Without state, randomness, control flow, or outputs whose size the data decide.
_OPERATOR_NAMES = """
Abs Add And AveragePool BatchNormalization Cast Ceil Celu Clip Concat Constant Conv ConvTranspose DepthToSpace
DequantizeLinear Div Elu Equal Erf Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool GlobalMaxPool Greater
GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu
Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Min Mish Mul Neg Not Or PRelu Pad Pow QuantizeLinear Reciprocal
ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round Selu
Shape Sigmoid Sign Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Transpose Unsqueeze
Where
"""
OPERATORS = frozenset(_OPERATOR_NAMES.split())


@dataclass(frozen=True)
class Port:
    """An input or output; a symbolic size is its name."""

    name: str
    data_type: int
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Graph:
    """What a graph holds. `operators` counts (domain, type); `parameters` counts the numbers in all initialisers."""

    ir_version: int
    opset: int
    operators: Counter[tuple[str, str]]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    parameters: int
    foreign: tuple[str, ...]
    """What no graph of a bundle may hold: weights in other files, local functions, subgraphs, other domains."""


def read_graph(data: bytes) -> Graph:
    """Read the bytes of an ONNX file.

    Raises:
        BundleError: not an ONNX file.
    """
    model = _MODEL()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise BundleError(f"wanted an ONNX file, got {len(data)} bytes that are none: {error}") from error
    if not model.graph.node:
        raise BundleError(f"wanted an ONNX file, got {len(data)} bytes that hold no graph")
    return Graph(
        ir_version=model.ir_version,
        opset=max((each.version for each in model.opset_import if _is_default(each.domain)), default=0),
        operators=Counter((each.domain, each.op_type) for each in model.graph.node),
        inputs=tuple(_port(each) for each in model.graph.input),
        outputs=tuple(_port(each) for each in model.graph.output),
        parameters=sum(prod(each.dims) for each in model.graph.initializer),
        foreign=tuple(sorted(set(_foreign(model)))),
    )


def problems(graph: Graph, signature: Signature, opsets: Iterable[int] = (OPSET,)) -> list[str]:
    """What makes a graph unfit to serve a signature, one sentence each; none when it is fit."""
    return [
        *([] if graph.opset in opsets else [f"wanted opset {_either(opsets)}, got {graph.opset}"]),
        *graph.foreign,
        *(
            f"operator {name} is not allowed"
            for domain, name in sorted(graph.operators)
            if _is_default(domain) and name not in OPERATORS
        ),
        *_port_problems("input", graph.inputs, signature.inputs),
        *_port_problems("output", graph.outputs, signature.outputs),
    ]


def _port_problems(kind: str, ports: Iterable[Port], specs: Iterable[TensorSpec]) -> Iterator[str]:
    wanted = [Port(spec.name, spec.data_type, (BATCH, *spec.shape[1:])) for spec in specs]
    came = list(ports)
    if [port.name for port in came] != [port.name for port in wanted]:
        yield f"wanted {kind}s {[port.name for port in wanted]}, got {[port.name for port in came]}"
        return
    for want, got in zip(wanted, came, strict=True):
        if want != got:
            yield f"{kind} {want.name}: wanted type {want.data_type} {want.shape}, got {got.data_type} {got.shape}"


def _foreign(model: Any) -> Iterator[str]:  # noqa: ANN401 (made from a descriptor at run time)
    if model.functions or model.training_info or model.graph.sparse_initializer:
        yield "functions, training steps and sparse weights are not allowed"
    for domain in {each.domain for each in model.opset_import} | {each.domain for each in model.graph.node}:
        if not _is_default(domain):
            yield f"operator domain {domain!r} is not allowed"
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    if any(each.g or each.graphs for each in attributes):
        yield "a graph within a graph is not allowed"
    inside = (tensor for each in attributes for tensor in (each.t, *each.tensors))
    if any(tensor.data_location or tensor.external_data for tensor in (*model.graph.initializer, *inside)):
        yield "weights outside the file are not allowed"


def _port(value: Any) -> Port:  # noqa: ANN401 (likewise)
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
    return Port(value.name, _DATA_TYPES.get(tensor.elem_type, DATA_TYPE_UNSPECIFIED), shape)


def _is_default(domain: str) -> bool:
    return domain in {"", "ai.onnx"}


def _either(opsets: Iterable[int]) -> str:
    numbers = sorted(opsets)
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


# TensorProto.DataType of onnx.proto.
_DATA_TYPES = {1: DATA_TYPE_FLOAT32, 2: DATA_TYPE_UINT8, 7: DATA_TYPE_INT64, 10: DATA_TYPE_FLOAT16}

# Message: field, number, type; * marks a repeated field. Messages that only must be absent are read as bytes.
_SCHEMA = {
    "Model": "ir_version 1 int64, graph 7 Graph, opset_import 8 *Opset, training_info 20 *bytes, functions 25 *bytes",
    "Opset": "domain 1 string, version 2 int64",
    "Graph": "node 1 *Node, initializer 5 *Tensor, input 11 *Value, output 12 *Value, sparse_initializer 15 *bytes",
    "Node": "op_type 4 string, attribute 5 *Attribute, domain 7 string",
    "Attribute": "t 5 Tensor, g 6 bytes, tensors 10 *Tensor, graphs 11 *bytes",
    "Tensor": "dims 1 *int64, external_data 13 *bytes, data_location 14 int32",
    "Value": "name 1 string, type 2 Type",
    "Type": "tensor_type 1 TensorType",
    "TensorType": "elem_type 1 int32, shape 2 Shape",
    "Shape": "dim 1 *Dimension",
    "Dimension": "dim_value 1 int64, dim_param 2 string",
}


def _model_class() -> type[Any]:
    file = descriptor_pb2.FileDescriptorProto(name="bundle/onnx.proto", package="bundle.onnx", syntax="proto3")
    for message, fields in _SCHEMA.items():
        descriptor = file.message_type.add(name=message)
        for field in fields.split(", "):
            _add_field(descriptor, *field.split(" "))
    # A pool of its own: the real onnx package may live in the same process.
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


_MODEL = _model_class()
