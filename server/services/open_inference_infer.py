"""ModelInfer: a request's tensors to rows of a graph, and the graph's outputs to a response."""

from collections.abc import Sequence
from functools import partial

from inference import open_inference_pb2 as pb

from server.call import Call
from server.errors import InvalidArgumentError
from server.row_queue import Entry
from server.services.graph_calls import GraphCalls
from server.services.open_inference_graphs import Graph, GraphTable
from server.services.open_inference_tensors import fill_contents, read_rows

# What callers may ask for and we do not have; ignoring it would give them something else than they wait for.
_REFUSED = ("classification", "shared_memory_region")
# Clients of streams ask with the first to be told with the second which response is a request's last.
_WANTS_FINAL = "triton_enable_empty_final_response"
_FINAL = "triton_final_response"


class Inference:
    """Runs any graph of any model."""

    def __init__(self, graphs: GraphTable, calls: GraphCalls) -> None:
        self._graphs = graphs
        self._calls = calls

    def infer(self, call: Call, request: pb.ModelInferRequest) -> None:
        """Queue a request's rows; raw contents in, raw contents out."""
        graph = self._graphs.get(request.model_name, request.model_version)
        call.served = graph.served
        rows, count = read_rows(graph, request, self._calls.limits.max_request_rows)
        wanted = _wanted(graph, request)
        self._calls.run(call, graph.signature.name, rows, count, partial(_answer, graph, request, wanted))


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
            raise InvalidArgumentError(f"{field}.name", f"wanted one of {names}, got {output.name[:60]!r}")
        if index in indexes:
            raise InvalidArgumentError(f"{field}.name", f"wanted {output.name!r} once, got it twice")
        for name in _REFUSED:
            if name in output.parameters:
                raise InvalidArgumentError(f"{field}.parameters", f"this server has no {name}: leave it out")
        indexes.append(index)
    return indexes


def _answer(graph: Graph, request: pb.ModelInferRequest, wanted: Sequence[int], entry: Entry) -> None:
    served = graph.served
    _note_drift(graph, entry)
    response = pb.ModelInferResponse(
        model_name=request.model_name or served.name, model_version=served.version, id=request.id
    )
    raw = len(request.raw_input_contents) > 0
    for index in wanted:
        name, datatype = graph.outputs[index]
        array = entry.outputs[index]
        tensor = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            response.raw_output_contents.append(array.tobytes())
        else:
            fill_contents(tensor.contents, array)
    if _WANTS_FINAL in request.parameters:
        response.parameters[_FINAL].bool_param = True
    entry.call.answer(response.SerializeToString())


def _note_drift(graph: Graph, entry: Entry) -> None:
    """Count the same as the typed Encode and Reconstruct."""
    if graph.signature.name == "encode":
        graph.served.drift.add_latents(entry.outputs[0].tobytes(), entry.count)
    elif graph.signature.name == "reconstruct":
        graph.served.drift.add_errors(entry.outputs[1].tobytes(), entry.count)
