"""ModelInfer: a request's tensors to rows of a graph, and the graph's outputs to a response."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from inference import open_inference_pb2 as pb

from server.batching.row_queue import Array, Buffer, Each, Entry
from server.calls.call import Call
from server.codec import protobuf_wire
from server.errors import InvalidArgumentError
from server.models.table import ServedModel
from server.parse_cache import IdField
from server.services.graph_calls import GraphCalls
from server.services.open_inference.graphs import Graph, GraphTable
from server.services.open_inference.tensors import check_raw, fill_contents, read_rows
from server.services.response_writer import rows_of

# What callers may ask for and we do not have; ignoring it would give them something else than they wait for.
_REFUSED = ("classification", "shared_memory_region")
# Clients of streams ask with the first to be told with the second which response is a request's last.
_WANTS_FINAL = "triton_enable_empty_final_response"
_FINAL = "triton_final_response"
ID = IdField(pb.ModelInferRequest.DESCRIPTOR.fields_by_name["id"].number, lambda request: request.id)
_RAW = pb.ModelInferResponse.DESCRIPTOR.fields_by_name["raw_output_contents"].number


class Inference:
    """Runs any graph of any model."""

    def __init__(self, graphs: GraphTable, calls: GraphCalls) -> None:
        self._graphs = graphs
        self._calls = calls

    def infer(self, call: Call, request: pb.ModelInferRequest) -> None:
        """Queue a request's rows; raw contents in, raw contents out."""
        graph = self._graphs.get(request.model_name, request.model_version)
        call.served = graph.served
        data, count = read_rows(graph, request, self._calls.limits.max_request_rows)
        asked = _Asked(graph, request.model_name, _wanted(graph, request), final=_WANTS_FINAL in request.parameters)
        if request.id:
            call.echo = protobuf_wire.field(ID.number, request.id.encode())
        signature = graph.signature.name
        if request.raw_input_contents:
            names = (request.model_name.partition(".")[0], request.model_version)
            reading = (partial(check_raw, graph) if graph.datatype != "UINT8" else None, count)
            raw = request.raw_input_contents[0]
            self._calls.run_data(call, names, signature, raw, reading, partial(_answer_raw, asked))
        else:
            self._calls.run(call, signature, data, count, Each(partial(_answer_typed, asked)))


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a request wants to be told; not the request, because its rows are large and this may be kept.

    Its id is not in it: requests that differ in that alone are alike.
    """

    graph: Graph
    name: str
    outputs: Sequence[int]
    final: bool

    def head(self, served: ServedModel, count: int, arrays: Sequence[Array]) -> pb.ModelInferResponse:
        """The response to `count` rows but for their contents and the id."""
        response = pb.ModelInferResponse(model_name=self.name or served.name, model_version=served.version)
        for index in self.outputs:
            name, datatype = self.graph.outputs[index]
            response.outputs.add(name=name, datatype=datatype, shape=(count, *arrays[index].shape[1:]))
        if self.final:
            response.parameters[_FINAL].bool_param = True
        return response


def raw_contents(request: pb.ModelInferRequest) -> bytes:
    """The rows of a request in raw contents."""
    return b"".join(request.raw_input_contents)


def _wanted(graph: Graph, request: pb.ModelInferRequest) -> Sequence[int]:
    """Indexes of the outputs asked for, in the order asked for."""
    if not request.outputs:
        return range(len(graph.outputs))
    indexes: list[int] = []
    for position, output in enumerate(request.outputs):
        field = f"outputs[{position}]"
        index = graph.output_indexes.get(output.name)
        if index is None:
            names = ", ".join(graph.output_indexes)
            raise InvalidArgumentError(f"{field}.name", f"expected one of {names}, got {output.name[:60]!r}")
        if index in indexes:
            raise InvalidArgumentError(f"{field}.name", f"expected {output.name!r} once, got it twice")
        for name in _REFUSED:
            if name in output.parameters:
                raise InvalidArgumentError(f"{field}.parameters", f"this server has no {name}: leave it out")
        indexes.append(index)
    return indexes


def _answer_raw(asked: _Asked, entries: Sequence[Entry], outputs: Sequence[Array]) -> None:
    """Answer requests that differ in their rows alone and ran together."""
    served = _served(entries[0].call)
    _note_drift(asked.graph, served, rows_of(entries, outputs))
    Call.answer_all(_raw_responses(asked, served, entries, outputs))


def _raw_responses(
    asked: _Asked, served: ServedModel, entries: Sequence[Entry], outputs: Sequence[Array]
) -> Iterator[tuple[Call, bytes]]:
    # What they have in common, the number of rows too, is written once: a response costs a join.
    count = entries[0].count
    head = asked.head(served, count, outputs).SerializeToString()
    parts: list[tuple[bytes, int, memoryview]] = []
    for index in asked.outputs:
        array = np.ascontiguousarray(outputs[index])
        row_bytes = array.nbytes // len(array)
        parts.append((protobuf_wire.opening(_RAW, count * row_bytes), row_bytes, array.data.cast("B")))
    for entry in entries:
        first, stop = entry.first, entry.first + count
        response: list[Buffer] = [head, entry.call.echo]
        for opening, row_bytes, data in parts:
            response += (opening, data[first * row_bytes : stop * row_bytes])
        yield entry.call, b"".join(response)


def _answer_typed(asked: _Asked, entry: Entry, outputs: Sequence[Array]) -> None:
    served = _served(entry.call)
    _note_drift(asked.graph, served, outputs)
    response = asked.head(served, entry.count, outputs)
    for tensor, index in zip(response.outputs, asked.outputs, strict=True):
        fill_contents(tensor.contents, outputs[index])
    entry.call.answer(response.SerializeToString() + entry.call.echo)


def _served(call: Call) -> ServedModel:
    assert call.served is not None  # noqa: S101 (its rows have run)
    return call.served


def _note_drift(graph: Graph, served: ServedModel, outputs: Sequence[Array]) -> None:
    """Count the same as the typed Encode and Reconstruct."""
    if graph.signature.name == "encode":
        served.drift.add_latents(outputs[0].tobytes(), len(outputs[0]))
    elif graph.signature.name == "reconstruct":
        served.drift.add_errors(outputs[1].tobytes(), len(outputs[1]))
