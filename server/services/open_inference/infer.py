"""ModelInfer: from a request's tensors to rows of a graph, and from the graph's outputs to a response."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from weakref import ref

import numpy as np
from autoencoder.v1.anomaly_maps import scores_of
from inference import open_inference_pb2 as pb

from server.batching.entry import Each, Entry
from server.calls.call import Call
from server.codec import protobuf_wire
from server.codec.pixels import squared_error
from server.errors import InvalidArgumentError
from server.model_version import ModelVersion
from server.parse_cache import IdField, PreparedRequest, Ready
from server.services.graph_calls import GraphCalls
from server.services.open_inference.graphs import Graph, GraphTable
from server.services.open_inference.tensors import check_raw, fill_contents, read_items, read_rows
from server.services.response_writer import ResponseWriter, raw_field, version_of
from server.types import Array

# Features that callers may request and this server lacks; ignoring them would return something else than expected.
_REFUSED = ("classification", "shared_memory_region")
# On streams, a client requests with the first parameter that the second marks the last response to a request.
_FINAL_REQUESTED = "triton_enable_empty_final_response"
_FINAL = "triton_final_response"
# Written in about a tenth of a millisecond.
_INLINE_ELEMENTS = 4096
_INLINE_BYTES = 4 * _INLINE_ELEMENTS
ID = IdField(pb.ModelInferRequest.DESCRIPTOR.fields_by_name["id"].number, lambda request: request.id)
_RAW = pb.ModelInferResponse.DESCRIPTOR.fields_by_name["raw_output_contents"].number


class Inference:
    """Runs any graph of any model."""

    def __init__(self, graphs: GraphTable, calls: GraphCalls) -> None:
        self._graphs = graphs
        self._calls = calls

    def infer(self, call: Call, request: pb.ModelInferRequest) -> Ready | None:
        """Make a request's rows ready for the graph; raw contents in, raw contents out."""
        graph = self._graphs.get(request.model_name, request.model_version)
        served = graph.served
        call.served = served
        if graph.signature.name in served.shaped:
            self._infer_items(call, graph, request)
            return None
        data, count = read_rows(graph, request, self._calls.limits.max_request_rows)
        form = self._form(call, graph, request)
        signature = graph.signature.name
        if request.raw_input_contents:
            names = (request.model_name.partition(".")[0], request.model_version)
            convert = partial(check_raw, graph) if graph.datatype != "UINT8" else None
            writer = ResponseWriter([raw_field(_RAW, index) for index in form.outputs], form.serialised)
            prepared = PreparedRequest(self._calls.table, names, ref(served), signature, count, convert, writer)
            return prepared, served, request.raw_input_contents[0]
        self._calls.run(call, served, signature, data, count, Each(partial(self._answer_typed, form)))
        return None

    def _form(self, call: Call, graph: Graph, request: pb.ModelInferRequest) -> "_ResponseForm":
        """Form of the response, whose id the call repeats."""
        if request.id:
            call.echo = protobuf_wire.length_delimited(ID.number, request.id.encode())
        final = _FINAL_REQUESTED in request.parameters
        return _ResponseForm(graph, request.model_name, _outputs(graph, request), final=final)

    def _infer_items(self, call: Call, graph: Graph, request: pb.ModelInferRequest) -> None:
        """Run a graph of free sizes, or with a second input."""
        served, signature = graph.served, graph.signature.name
        items, given = read_items(graph, request, self._calls.limits.max_request_rows)
        if signature == "decode":
            self._calls.check_decoded(served, "inputs[0]", len(items), items[0].shape)
        beside = served.noise_levels([*map(float, given)], len(items)) if signature == "denoise" else given
        form, raw = self._form(call, graph, request), bool(request.raw_input_contents)
        done = partial(self._answer_items, form, call, raw, items)
        served.shaped[signature].submit(call, items, done, beside)

    def _answer_items(
        self, form: "_ResponseForm", call: Call, raw: bool, items: Sequence[Array], results: list[list[Array]]
    ) -> None:
        """Answer a request for a graph of free sizes; what is large is written on another thread."""
        _observe(form.graph, items, results)
        size_bytes = sum(outputs[index].nbytes for outputs in results for index in form.outputs)
        job = partial(_write_items, form, call, results, raw=raw)
        if size_bytes > _INLINE_BYTES:
            self._calls.offload(call, job, size_bytes)
        else:
            job()

    def _answer_typed(self, form: "_ResponseForm", entry: Entry, outputs: Sequence[Array]) -> None:
        """Answer with typed contents; many elements are written on another thread."""
        if sum(outputs[index].size for index in form.outputs) > _INLINE_ELEMENTS:
            job = partial(_write_typed, form, entry, outputs)
            self._calls.offload(entry.call, job, sum(outputs[index].nbytes for index in form.outputs))
        else:
            _write_typed(form, entry, outputs)


@dataclass(frozen=True, eq=False)
class _ResponseForm:
    """What the response to a request contains; kept instead of the request, whose rows are large.

    The request's id is not part of it: requests that differ only in that share a form.
    """

    graph: Graph
    name: str
    outputs: Sequence[int]
    final: bool

    def message(self, version: ModelVersion, count: int, arrays: Sequence[Array]) -> pb.ModelInferResponse:
        """Response to `count` rows, without their contents and the id."""
        response = pb.ModelInferResponse(model_name=self.name or version.name, model_version=version.version)
        for index in self.outputs:
            name, datatype = self.graph.outputs[index]
            response.outputs.add(name=name, datatype=datatype, shape=(count, *arrays[index].shape[1:]))
        if self.final:
            response.parameters[_FINAL].bool_param = True
        return response

    def serialised(self, version: ModelVersion, count: int, arrays: Sequence[Array]) -> bytes:
        """Bytes of that response."""
        return self.message(version, count, arrays).SerializeToString()


def raw_contents(request: pb.ModelInferRequest) -> bytes:
    """The rows of a request in raw contents."""
    return b"".join(request.raw_input_contents)


def _outputs(graph: Graph, request: pb.ModelInferRequest) -> Sequence[int]:
    """Indexes of the requested outputs, in the requested order."""
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


def _observe(graph: Graph, items: Sequence[Array], results: list[list[Array]]) -> None:
    """Count answers of a graph of free sizes for drift; of others their batcher does so."""
    drift, found = graph.served.drift, [outputs[0] for outputs in results]
    if graph.signature.name == "encode":
        drift.observe_codes(np.stack(found))
    elif graph.signature.name == "detect":
        scores = scores_of(found, graph.served.model.detection.score)
        drift.detections.observe(scores, [each.shape[:2] for each in found])
    elif graph.signature.name == "reconstruct":
        drift.observe_errors(np.array([squared_error(*pair) for pair in zip(items, found, strict=True)], np.float32))


def _write_items(form: _ResponseForm, call: Call, results: list[list[Array]], *, raw: bool) -> None:
    arrays = [np.stack(column) for column in zip(*results, strict=True)]
    response = form.message(version_of(call), len(results), arrays)
    if raw:
        response.raw_output_contents.extend(arrays[index].tobytes() for index in form.outputs)
    else:
        for tensor, index in zip(response.outputs, form.outputs, strict=True):
            fill_contents(tensor.contents, arrays[index])
    call.answer(response.SerializeToString() + call.echo)


def _write_typed(form: _ResponseForm, entry: Entry, outputs: Sequence[Array]) -> None:
    response = form.message(version_of(entry.call), entry.count, outputs)
    for tensor, index in zip(response.outputs, form.outputs, strict=True):
        fill_contents(tensor.contents, outputs[index])
    entry.call.answer(response.SerializeToString() + entry.call.echo)
