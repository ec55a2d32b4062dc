"""First deviating value: where, inside a graph, its numbers leave those of the float64 network.

The exporter names a value of the graph after the operation of the traced network that made it. So the network is traced
once more, in float64, interpreted on the input that failed, and compared with the graph, value by value, in its order.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import onnx
import torch
from autoencoder.v1.model_pb2 import Signature
from onnx import ModelProto, ValueInfoProto
from torch.export import ExportedProgram
from torch.fx import Interpreter, Node

from bundle import golden
from bundle.golden import Array, Arrays
from bundle.runtime_options import Device
from export.gate.parity import TestInput
from export.gate.sandbox import Sandbox
from export.gate.session import open_session
from export.graphs import build
from export.graphs.methods import Method

# Sums of large numbers that cancel out are less exact: values may also be off by this much of the largest of a channel.
_RELATIVE_TO_LARGEST = 1e-5
# Of the batch that failed: it may take two to fail.
_ROWS = 2


class Reference(NamedTuple):
    """A value of the network in float64, and the path of the module that computes it."""

    value: Array
    module: str


class Deviation(NamedTuple):
    """The first value of a graph that leaves the tolerance."""

    node: str
    operator: str
    value: str
    module: str
    distance: float
    largest: float
    """Of the reference's numbers."""

    def __str__(self) -> str:
        place = f"module {self.module}" if self.module else "no module of the network's"
        return (
            f"the first value that deviates is {self.value}, of node {self.node} ({self.operator}) in {place}: "
            f"off by {self.distance:.3g}, where the largest number is {self.largest:.3g}"
        )


def explain(method: Method, signature: Signature, graph: bytes, tried: TestInput, sandbox: Sandbox) -> str:
    """Name the first deviating value of a graph that failed on an input; `method` is the float64 one."""
    try:
        rows = _worst_rows(sandbox.run(_outputs, graph, tried.inputs), tried)
        inputs = {name: np.ascontiguousarray(array[rows]) for name, array in tried.inputs.items()}
        found = sandbox.run(first_deviation, graph, inputs, references(method, signature, inputs))
    except Exception as error:  # noqa: BLE001 (the check has failed already; whatever fails here must not hide that)
        return f"the first value that deviates is not known: {type(error).__name__}"
    return "no single value deviates: the distance builds up over many" if found is None else str(found)


def references(method: Method, signature: Signature, inputs: Arrays) -> dict[str, Reference]:
    """Every value of a float64 method on these inputs, by the name that the exporter gives it in a graph."""
    given = [torch.tensor(array) for array in inputs.values()]
    doubles = [each.to(method.precision) if each.is_floating_point() else each for each in given]
    traced = build.program(method, signature).exported_program
    recorder = _Recorder(traced)
    with torch.no_grad():
        recorder.run(*_arguments(traced, doubles))
    return recorder.named([spec.name for spec in signature.outputs])


def first_deviation(
    graph: bytes, inputs: Arrays, expected: Mapping[str, Reference], device: Device = "cpu"
) -> Deviation | None:
    """Compare all values of a graph, in its order, with references of their name; runs in the sandbox."""
    model = onnx.load_model_from_string(graph)
    compared = [(node, name) for node in model.graph.node for name in node.output if name in expected]
    session = open_session(_opened(model, [name for _, name in compared]), device)
    actual = session.run(inputs)
    for node, name in compared:
        reference = expected[name]
        if actual[name].shape == reference.value.shape and not _near(actual[name], reference.value):
            distance = golden.max_error(actual[name], reference.value)
            largest = float(np.max(np.abs(reference.value)))
            return Deviation(node.name, node.op_type, name, reference.module, distance, largest)
    return None


class _Recorder(Interpreter):
    """Interprets a traced network and keeps every floating-point value."""

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__(program.graph_module)
        self._values: dict[str, Reference] = {}
        self._outputs: list[str] = []

    def run_node(self, n: Node) -> Any:  # noqa: ANN401 (as torch has it)
        """Run one operation."""
        value = super().run_node(n)
        if n.op == "output":
            self._outputs = [each.name for each in cast("tuple[Node, ...]", n.args[0])]
        elif n.op == "call_function" and isinstance(value, torch.Tensor) and value.is_floating_point():
            self._values[n.name] = Reference(np.asarray(value.numpy()), _module(n))
        return value

    def named(self, outputs: list[str]) -> dict[str, Reference]:
        """The values, those of the outputs under the names that a graph's outputs have."""
        given = dict(zip(self._outputs, outputs, strict=True))
        return {given.get(name, name): value for name, value in self._values.items()}


def _module(node: Node) -> str:
    """Path of the innermost module of the network that an operation stands in."""
    stack = cast("Mapping[str, tuple[str, object]]", node.meta.get("nn_module_stack") or {})
    path = [*stack.values()][-1][0] if stack else ""
    return path.removeprefix("model").removeprefix(".")


def _arguments(program: ExportedProgram, inputs: list[torch.Tensor]) -> Iterator[Any]:
    """What the placeholders of a traced network get."""
    signature, left = program.graph_signature, iter(inputs)
    stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = signature.inputs_to_lifted_tensor_constants
    for node in program.graph.nodes:
        if node.op == "placeholder":
            tensor = program.state_dict.get(stored.get(node.name, ""))
            if tensor is None:
                tensor = program.constants.get(stored.get(node.name) or constants.get(node.name, ""))
            yield next(left) if tensor is None else tensor


def _opened(model: ModelProto, names: list[str]) -> bytes:
    """A graph with values as outputs besides its own."""
    own = {each.name for each in model.graph.output}
    model.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in own)
    return model.SerializeToString()


def _outputs(graph: bytes, inputs: Arrays) -> dict[str, Array]:
    return open_session(graph).run(inputs)


def _worst_rows(actual: Arrays, tried: TestInput) -> slice:
    """The row that is farthest off, and the one after or before it."""
    excess = [
        max(golden.excess(actual[name][row : row + 1], rows[row : row + 1]) for name, rows in tried.expected.items())
        for row in range(tried.rows)
    ]
    first = max(0, min(int(np.argmax(excess)), tried.rows - _ROWS))
    return slice(first, first + _ROWS)


def _near(actual: Array, expected: Array) -> bool:
    if golden.agrees(actual, expected):
        return True
    others = tuple(axis for axis in range(expected.ndim) if axis != 1)
    allowed = np.maximum(
        golden.ABSOLUTE_TOLERANCE + golden.RELATIVE_TOLERANCE * np.abs(expected),
        _RELATIVE_TO_LARGEST * np.max(np.abs(expected), axis=others, keepdims=True),
    )
    # Not <=: no comparison with NaN holds.
    return bool(np.all(np.abs(actual - expected) <= allowed))
