"""inference.GRPCInferenceService, the Open Inference Protocol v2, over the graphs that the typed service runs."""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from inference import model_config_pb2
from inference import open_inference_pb2 as pb

from server.batching.executor import Executor
from server.calls.call import Call
from server.calls.streaming import StreamMethod
from server.codec.prescan import Prescan
from server.config import Config
from server.endpoint import Method
from server.errors import ServingError
from server.metrics.registry import Metrics
from server.models.manager import ModelManager
from server.models.readiness import ReadinessCheck
from server.parse_cache import ParseCache
from server.runtime.providers import PROVIDERS
from server.services.graph_calls import GraphCalls
from server.services.open_inference import stream
from server.services.open_inference.graphs import Graph, GraphTable, datatype
from server.services.open_inference.infer import ID, Inference, raw_contents
from server.services.open_inference.repository import RepositoryControl
from server.services.open_inference.statistics import Statistics

SERVICE: str = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
EXTENSIONS = ("model_configuration", "model_repository", "statistics")
PLATFORM = "onnx_onnxv1"
_NAMES = [method.name for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods]
_Serve = Callable[[Call, Any], None]


def declared() -> list[str]:
    """Paths of every method, streams included."""
    return [f"/{SERVICE}/{name}" for name in _NAMES]


@dataclass(frozen=True)
class Dependencies:
    """What the RPCs are built from."""

    calls: GraphCalls
    readiness: ReadinessCheck
    manager: ModelManager
    executor: Executor
    metrics: Metrics
    config: Config


def methods(dependencies: Dependencies) -> list[Method | StreamMethod]:
    """Every RPC of the service."""
    graphs = GraphTable(dependencies.calls.table)
    metadata = HealthAndMetadata(graphs, dependencies.readiness, dependencies.config)
    inference = Inference(graphs, dependencies.calls)
    statistics = Statistics(graphs, dependencies.metrics)
    control = RepositoryControl(dependencies.calls.table, dependencies.manager, dependencies.executor)
    health: list[tuple[str, _Serve]] = [
        ("ServerLive", metadata.server_live),
        ("ServerReady", metadata.server_ready),
        ("ModelReady", metadata.model_ready),
    ]
    open_to_callers: list[tuple[str, _Serve]] = [
        ("ServerMetadata", metadata.server_metadata),
        ("ModelMetadata", metadata.model_metadata),
        ("ModelConfig", metadata.model_config),
        ("ModelStatistics", statistics.answer),
        ("RepositoryIndex", control.index),
    ]
    admin: list[tuple[str, _Serve]] = [
        ("RepositoryModelLoad", control.load),
        ("RepositoryModelUnload", control.unload),
    ]
    cache = ParseCache(pb.ModelInferRequest.FromString, raw_contents, ID)
    prescan = Prescan(pb.ModelInferRequest, dependencies.config.max_request_rows)
    infer = Method(*_wire("ModelInfer"), inference.infer, cache=cache, prescan=prescan)
    return [
        *(Method(*_wire(name), serve, right=None) for name, serve in health),
        *(Method(*_wire(name), serve) for name, serve in open_to_callers),
        *(Method(*_wire(name), serve, "admin", prescan=Prescan(_request(name), 0)) for name, serve in admin),
        infer,
        stream.method(SERVICE, infer, prescan),
    ]


def _wire(name: str) -> tuple[str, str, Callable[[bytes], Any]]:
    """Name, path and parser of a method."""
    return name, f"/{SERVICE}/{name}", _request(name).FromString


def _request(name: str) -> type[Message]:
    """Class of a method's requests."""
    return getattr(pb, f"{name}Request")


class HealthAndMetadata:
    """RPCs for health and metadata of the server and its models."""

    def __init__(self, graphs: GraphTable, readiness: ReadinessCheck, config: Config) -> None:
        self._graphs = graphs
        self._readiness = readiness
        self._config = config

    def server_live(self, call: Call, request: pb.ServerLiveRequest) -> None:
        """Who answers lives."""
        del request
        call.answer(pb.ServerLiveResponse(live=True).SerializeToString())

    def server_ready(self, call: Call, request: pb.ServerReadyRequest) -> None:
        """Whether this server should get traffic."""
        del request
        call.answer(pb.ServerReadyResponse(ready=self._readiness.check().ready).SerializeToString())

    def model_ready(self, call: Call, request: pb.ModelReadyRequest) -> None:
        """Whether a model or graph serves; false for an unknown one."""
        call.answer(pb.ModelReadyResponse(ready=self._is_ready(request.name, request.version)).SerializeToString())

    def server_metadata(self, call: Call, request: pb.ServerMetadataRequest) -> None:
        """Name and version of this program, and the extensions it supports."""
        del request
        version = importlib.metadata.version("hourglass")
        response = pb.ServerMetadataResponse(name="hourglass", version=version, extensions=EXTENSIONS)
        call.answer(response.SerializeToString())

    def model_metadata(self, call: Call, request: pb.ModelMetadataRequest) -> None:
        """Inputs and outputs of a graph."""
        graph = self._graph(call, request.name, request.version)
        versions = self._graphs.table.snapshot.models.get(graph.served.name, {})
        response = pb.ModelMetadataResponse(
            name=request.name or graph.served.name,
            versions=[str(number) for number in sorted(versions)],
            platform=PLATFORM,
            properties=_properties(graph),
        )
        for specs, tensors in (
            (graph.signature.inputs, response.inputs),
            (graph.signature.outputs, response.outputs),
        ):
            for spec in specs:
                tensors.add(name=spec.name, datatype=datatype(spec.data_type), shape=spec.shape)
        call.answer(response.SerializeToString())

    def model_config(self, call: Call, request: pb.ModelConfigRequest) -> None:
        """Configuration of a model, which clients of that extension request before they infer."""
        graph = self._graph(call, request.name, request.version)
        config = model_config_pb2.ModelConfig(
            name=request.name or graph.served.name,
            platform="onnxruntime_onnx",
            backend="onnxruntime",
            max_batch_size=self._config.max_request_rows,
            version_policy=_policy(self._config.versions),
            dynamic_batching=_batching(graph),
            instance_group=[_instances(graph)],
        )
        for specs, tensors in ((graph.signature.inputs, config.input), (graph.signature.outputs, config.output)):
            for spec in specs:
                kind = model_config_pb2.DataType.Value(f"TYPE_{datatype(spec.data_type)}")
                tensors.add(name=spec.name, data_type=kind, dims=spec.shape[1:])
        call.answer(pb.ModelConfigResponse(config=config).SerializeToString())

    def _graph(self, call: Call, name: str, version: str) -> Graph:
        graph = self._graphs.get(name, version)
        call.served = graph.served
        return graph

    def _is_ready(self, name: str, version: str) -> bool:
        try:
            self._graphs.get(name, version)
        except ServingError:
            return False
        return True


def _properties(graph: Graph) -> dict[str, str]:
    served = graph.served
    return {
        "family": served.model.family,
        "signature": graph.signature.name,
        "graphs": ",".join(f"{served.name}.{signature.name}" for signature in served.model.signatures),
        "provider": served.provider,
        "opset": str(served.opset),
    }


def _policy(versions: str) -> model_config_pb2.ModelVersionPolicy:
    policy = model_config_pb2.ModelVersionPolicy
    if versions == "latest":
        return policy(latest=policy.Latest(num_versions=1))
    if versions == "all":
        return policy(all=policy.All())
    return policy(specific=policy.Specific(versions=[int(number) for number in versions.split(",")]))


def _batching(graph: Graph) -> model_config_pb2.ModelDynamicBatching:
    policy = graph.served.batchers[graph.signature.name].policy
    return model_config_pb2.ModelDynamicBatching(
        preferred_batch_size=graph.signature.batch_buckets,
        max_queue_delay_microseconds=int(policy.max_delay_seconds * 1e6),
    )


def _instances(graph: Graph) -> model_config_pb2.ModelInstanceGroup:
    group = model_config_pb2.ModelInstanceGroup
    runs = graph.served.batchers[graph.signature.name].policy.concurrent_runs
    return group(name=graph.name, count=runs, kind=PROVIDERS[graph.served.provider].instance_kind)
