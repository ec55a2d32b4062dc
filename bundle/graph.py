"""Allow-list for ONNX graphs that this project serves, checked on their bytes before a runtime sees them.

Reads the relevant fields of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) by their numbers,
so that the server needs no onnx package.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from autoencoder.v1.model_pb2 import DATA_TYPE_UNSPECIFIED, DataType, Signature, TensorSpec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from bundle.errors import BundleError
from bundle.tensor_types import FROM_ONNX

BATCH = "batch"
# What export writes. A graph made elsewhere may use any opset that the runtime knows well.
OPSET = 20
IR_VERSION = 10
FOREIGN_OPSETS = range(13, 24)

# No state, randomness, control flow, or outputs whose size depends on the data.
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
    data_type: DataType
    shape: tuple[int | str, ...]

    @property
    def form(self) -> str:
        """Type and shape in words."""
        return f"{DataType.Name(self.data_type).removeprefix('DATA_TYPE_').lower()} {self.shape}"


@dataclass(frozen=True)
class Graph:
    """Summary of a graph. `operators` counts (domain, type); `parameters` counts the numbers in all initialisers."""

    ir_version: int
    opset: int
    operators: Counter[tuple[str, str]]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    parameters: int
    foreign: tuple[str, ...]
    """What a bundle's graph must not have: weights in other files or twice, functions, subgraphs, other domains."""


def read_graph(data: bytes) -> Graph:
    """Read the bytes of an ONNX file.

    Raises:
        BundleError: not an ONNX file.
    """
    model = _MODEL()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise BundleError(f"expected an ONNX file, got {len(data)} bytes that are not one: {error}") from error
    if not model.graph.node:
        raise BundleError(f"expected an ONNX file, got {len(data)} bytes without a graph")
    return Graph(
        ir_version=model.ir_version,
        opset=max((each.version for each in model.opset_import if _is_default(each.domain)), default=0),
        operators=Counter((each.domain, each.op_type) for each in model.graph.node),
        inputs=tuple(_port(each) for each in model.graph.input),
        outputs=tuple(_port(each) for each in model.graph.output),
        parameters=sum(prod(each.dims) for each in model.graph.initializer),
        foreign=tuple(sorted(set(_foreign(model)))),
    )


def check_graph(data: bytes, signature: Signature, *, imported: bool) -> Graph:
    """Read the bytes of a signature's ONNX file, made by export or, `imported`, elsewhere.

    Raises:
        BundleError: the graph does not fit the signature; lists everything that is wrong.
    """
    opsets = FOREIGN_OPSETS if imported else (OPSET,)
    try:
        graph = read_graph(data)
    except BundleError as error:
        raise BundleError(f"{signature.file}: {error}") from error
    if found := list(_problems(graph, signature, opsets)):
        raise BundleError(f"{signature.file}: {'; '.join(found)}")
    return graph


def _problems(graph: Graph, signature: Signature, opsets: Collection[int]) -> Iterator[str]:
    if graph.opset not in opsets:
        yield f"expected opset {_either(opsets)}, got {graph.opset}"
    if graph.ir_version > IR_VERSION:
        yield f"expected at most IR version {IR_VERSION}, got {graph.ir_version}"
    yield from graph.foreign
    for domain, name in sorted(graph.operators):
        if _is_default(domain) and name not in OPERATORS:
            yield f"operator {name} is not allowed"
    yield from _port_problems("input", graph.inputs, signature.inputs)
    yield from _port_problems("output", graph.outputs, signature.outputs)


def _port_problems(kind: str, ports: Iterable[Port], specs: Iterable[TensorSpec]) -> Iterator[str]:
    expected = [Port(spec.name, spec.data_type, (BATCH, *spec.shape[1:])) for spec in specs]
    actual = list(ports)
    if [port.name for port in actual] != [port.name for port in expected]:
        yield f"expected {kind}s {[port.name for port in expected]}, got {[port.name for port in actual]}"
        return
    for one, other in zip(expected, actual, strict=True):
        if one != other:
            yield f"{kind} {one.name}: expected {one.form}, got {other.form}"


def _foreign(model: Any) -> Iterator[str]:  # noqa: ANN401 (made from a descriptor at run time)
    if model.functions or model.training_info:
        yield "functions and training steps are not allowed"
    for domain in {each.domain for each in model.opset_import} | {each.domain for each in model.graph.node}:
        if not _is_default(domain):
            yield f"operator domain {domain!r} is not allowed"
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    if any(each.HasField("g") or each.graphs for each in attributes):
        yield "a graph within a graph is not allowed"
    if model.graph.sparse_initializer or any(a.HasField("sparse_tensor") or a.sparse_tensors for a in attributes):
        yield "sparse weights are not allowed"
    weights = model.graph.initializer
    for tensor in (*weights, *(inside for each in attributes for inside in (each.t, *each.tensors))):
        if tensor.data_location or tensor.external_data:
            yield f"weights outside the file are not allowed: {tensor.name}"
    for name, count in Counter(each.name for each in weights).items():
        if count > 1:
            yield f"weights {name} are stored {count} times"


def _port(value: Any) -> Port:  # noqa: ANN401 (likewise)
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
    return Port(value.name, FROM_ONNX.get(tensor.elem_type, DATA_TYPE_UNSPECIFIED), shape)


def _is_default(domain: str) -> bool:
    return domain in {"", "ai.onnx"}


def _either(opsets: Collection[int]) -> str:
    numbers = sorted(opsets)
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


# Message: field, number, type; * marks a repeated field. Messages that must be absent have no fields here.
_SCHEMA = {
    "Model": "ir_version 1 int64, graph 7 Graph, opset_import 8 *Opset, training_info 20 *Any, functions 25 *Any",
    "Opset": "domain 1 string, version 2 int64",
    "Graph": "node 1 *Node, initializer 5 *Tensor, input 11 *Value, output 12 *Value, sparse_initializer 15 *Any",
    "Node": "op_type 4 string, attribute 5 *Attribute, domain 7 string",
    "Attribute": (
        "t 5 Tensor, g 6 Any, tensors 10 *Tensor, graphs 11 *Any, sparse_tensor 22 Any, sparse_tensors 23 *Any"
    ),
    "Tensor": "dims 1 *int64, name 8 string, external_data 13 *Any, data_location 14 int32",
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


_MODEL = _model_class()
