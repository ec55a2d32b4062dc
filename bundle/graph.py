"""Allow-list for ONNX graphs that this project serves, checked on their bytes before a runtime sees them."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from autoencoder.v1 import tiling
from autoencoder.v1.model_pb2 import DATA_TYPE_UNSPECIFIED, DataType, Signature, TensorSpec
from autoencoder.v1.shapes import FREE, Shapes

from bundle.errors import BundleError
from bundle.graph_memory.estimate import Estimate, described
from bundle.graph_memory.trial import ANY_SHAPES, run_memory
from bundle.graph_proto import parse
from bundle.tensor_types import FROM_ONNX

BATCH = "batch"
# What export writes. A graph made elsewhere may use any opset that the runtime knows well.
OPSET = 20
IR_VERSION = 10
FOREIGN_OPSETS = range(13, 24)

# No state, randomness, control flow, or outputs whose size depends on the data.
_OPERATOR_NAMES = """
Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Celu Clip Concat Constant ConstantOfShape Conv
ConvTranspose Cos CumSum DepthToSpace DequantizeLinear Div Einsum Elu Equal Erf Exp Expand Flatten Floor GRU Gather
GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual
GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization LRN LSTM LayerNormalization LeakyRelu
Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul Max MaxPool MeanVarianceNormalization Min Mish Mod Mul
Neg Not OneHot Or PRelu Pad Pow QuantizeLinear RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements
ScatterND Selu Shape Shrink Sigmoid Sign Sin Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub
Sum Tanh ThresholdedRelu Tile Transpose Trilu Unsqueeze Where Xor
"""
OPERATORS = frozenset(_OPERATOR_NAMES.split())
MAX_RUN_BYTES = 8 * 1024**3
"""Default limit of the memory that the largest batch of a graph may take."""
# Weights may be stored in fewer bits and computed from each other, and a few made from nothing.
_CONSTANTS_BYTES = 256 * 1024**2
_CONSTANTS_PER_BYTE = 16
# Of normalization by the batch at hand: an image's answer would depend on the others of its batch.
_TRAINING_MODE = " in training mode"
_INSTEAD = {
    "BatchNormalization in training mode": "call model.eval() before the export",
    "Dropout": "call model.eval() before the export",
    "DynamicQuantizeLinear": "quantize statically",
    "GridSample": "warp images outside of the graph",
    "If": "export one branch: trace the module, or fold the condition",
    "Loop": "unroll it",
    "Multinomial": "draw latents with Sample, not in the graph",
    "NonZero": "use Where: sizes must not depend on the data",
    "RandomNormal": "return the mean and the log-variance as outputs: the graph must not draw",
    "RandomNormalLike": "return the mean and the log-variance as outputs: the graph must not draw",
    "RandomUniform": "return the mean and the log-variance as outputs: the graph must not draw",
    "RandomUniformLike": "return the mean and the log-variance as outputs: the graph must not draw",
    "Scan": "unroll it, or use LSTM, GRU or RNN",
    "TopK": "use ReduceMax, or take it outside of the graph",
    "Upsample": "export with opset 13 or later, which has Resize",
}


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
    refused: tuple[str, ...]
    """Nodes whose operator is not allowed, the first of each operator."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    parameters: int
    foreign: tuple[str, ...]
    """What a bundle's graph must not have: weights in other files or twice, functions, subgraphs, sparse weights."""


def read_graph(data: bytes) -> Graph:
    """Read the bytes of an ONNX file.

    Raises:
        BundleError: not an ONNX file.
    """
    return _summary(parse(data))


def _summary(model: Any) -> Graph:  # noqa: ANN401 (likewise)
    return Graph(
        ir_version=model.ir_version,
        opset=max((each.version for each in model.opset_import if _is_default(each.domain)), default=0),
        operators=Counter((each.domain, each.op_type) for each in model.graph.node),
        refused=tuple(_refused(model.graph.node)),
        inputs=tuple(_port(each) for each in model.graph.input),
        outputs=tuple(_port(each) for each in model.graph.output),
        parameters=sum(prod(each.dims) for each in model.graph.initializer),
        foreign=tuple(sorted(set(_foreign(model)))),
    )


def check_graph(
    data: bytes,
    signature: Signature,
    *,
    imported: bool,
    max_run_bytes: int = MAX_RUN_BYTES,
    shapes: Shapes = ANY_SHAPES,
) -> Graph:
    """Read the bytes of a signature's ONNX file, made by export or, `imported`, elsewhere, for a model of `shapes`.

    Raises:
        BundleError: the graph does not fit the signature; lists everything that is wrong. Or it would take more memory.
    """
    opsets = FOREIGN_OPSETS if imported else (OPSET,)
    try:
        model = parse(data)
        graph = _summary(model)
        _check_form(graph, signature, opsets)
        _check_memory(run_memory(model, signature, shapes=shapes), len(data), max_run_bytes)
        if signature.HasField("tiling"):
            side = max(max(size) for _, size in tiling.trials(signature.tiling))
            needed = run_memory(model, signature, rows=1, side=side, shapes=shapes)
            _check_memory(needed, len(data), max_run_bytes)
    except BundleError as error:
        raise BundleError(f"{signature.file}: {error}") from error
    return graph


def _check_form(graph: Graph, signature: Signature, opsets: Collection[int]) -> None:
    if found := list(_problems(graph, signature, opsets)):
        raise BundleError("; ".join(found))


def _check_memory(needed: Estimate, size_bytes: int, max_run_bytes: int) -> None:
    most = _CONSTANTS_BYTES + _CONSTANTS_PER_BYTE * size_bytes
    if needed.constants > most:
        raise BundleError(
            f"expected constants of at most {most} bytes in a file of {size_bytes}, got {needed.constants}: "
            "store what the graph makes of its weights, or make less"
        )
    if needed.constants + needed.run > max_run_bytes:
        raise BundleError(
            f"expected at most {max_run_bytes} bytes of memory for the largest batch, got about "
            f"{needed.constants + needed.run}: if there is so much, raise --max-run-bytes"
        )


def _problems(graph: Graph, signature: Signature, opsets: Collection[int]) -> Iterator[str]:
    if graph.opset not in opsets:
        yield f"expected opset {_either(opsets)}, got {graph.opset}"
    if graph.ir_version > IR_VERSION:
        yield f"expected at most IR version {IR_VERSION}, got {graph.ir_version}"
    yield from graph.foreign
    yield from graph.refused
    yield from _port_problems("input", graph.inputs, signature.inputs)
    yield from _port_problems("output", graph.outputs, signature.outputs)


def _refused(nodes: Iterable[Any]) -> Iterator[str]:
    seen: set[tuple[str, str]] = set()
    for node in nodes:
        mode = _TRAINING_MODE if _is_training(node) else ""
        kind = (node.domain, node.op_type + mode)
        if kind in seen or (_is_default(node.domain) and node.op_type + mode in OPERATORS):
            continue
        seen.add(kind)
        of = "" if _is_default(node.domain) else f" of domain {node.domain[:80]!r}"
        instead = _INSTEAD.get(node.op_type + mode) if not of else "export with standard operators"
        yield f"{described(node)}{mode}{of} is not allowed" + (f": {instead}" if instead else "")


def _is_training(node: Any) -> bool:  # noqa: ANN401 (likewise)
    """Whether it normalizes by the batch at hand, as the attribute says from opset 14, and further outputs before."""
    by_attribute = any(each.name == "training_mode" and each.i for each in node.attribute)
    return node.op_type == "BatchNormalization" and (by_attribute or len(node.output) > 1)


def _port_problems(kind: str, ports: Iterable[Port], specs: Iterable[TensorSpec]) -> Iterator[str]:
    expected = [Port(spec.name, spec.data_type, (BATCH, *spec.shape[1:])) for spec in specs]
    actual = list(ports)
    if [port.name for port in actual] != [port.name for port in expected]:
        yield f"expected {kind}s {[port.name for port in expected]}, got {[port.name for port in actual]}"
        return
    for one, other in zip(expected, actual, strict=True):
        if not _fits(one, other):
            yield f"{kind} {one.name}: expected {one.form}, got {other.form}"


def _fits(expected: Port, actual: Port) -> bool:
    """Whether a port is as expected; a free axis has a name, or in outputs an expression or nothing."""
    if expected.data_type != actual.data_type or len(expected.shape) != len(actual.shape):
        return False
    sizes = zip(expected.shape, actual.shape, strict=True)
    return all(one == other or (one == FREE and not (isinstance(other, int) and other)) for one, other in sizes)


def _foreign(model: Any) -> Iterator[str]:  # noqa: ANN401 (made from a descriptor at run time)
    if model.functions or model.training_info:
        yield "functions and training steps are not allowed"
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    if any(each.HasField("g") or each.graphs for each in attributes):
        yield "a graph within a graph is not allowed"
    if model.graph.sparse_initializer or any(a.HasField("sparse_tensor") or a.sparse_tensors for a in attributes):
        yield "sparse weights are not allowed"
    weights = model.graph.initializer
    if any(len({a.name for a in node.attribute}) < len(node.attribute) for node in model.graph.node):
        yield "an attribute that is given twice is not allowed"
    tensors = (*weights, *(inside for each in attributes for inside in (each.t, *each.tensors)))
    outside = [each.name[:80] for each in tensors if each.data_location or each.external_data]
    if outside:
        more = f" and {len(outside) - 1} more" if len(outside) > 1 else ""
        yield f"weights outside the file are not allowed: {outside[0]}{more}; export with external_data=False"
    for name, count in Counter(each.name for each in weights).items():
        if count > 1:
            yield f"weights {name[:80]} are stored {count} times"


def _port(value: Any) -> Port:  # noqa: ANN401 (likewise)
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
    return Port(value.name, FROM_ONNX.get(tensor.elem_type, DATA_TYPE_UNSPECIFIED), shape)


def _is_default(domain: str) -> bool:
    return domain in {"", "ai.onnx"}


def _either(opsets: Collection[int]) -> str:
    numbers = sorted(opsets)
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
