"""ASGI application: the routes of the Open Inference Protocol over HTTP, and of autoencoder.v1 in protobuf JSON."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias, cast

from autoencoder.v1 import autoencoder_pb2
from google.protobuf.message import Message
from inference import open_inference_pb2 as pb
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from server.calls.call import Metadata
from server.config import Config
from server.explorer import page
from server.rest import protobuf_json_reader, protobuf_json_writer
from server.rest.bodies import JSON_BYTES, BodyReader, json_bytes, json_object
from server.rest.bridge import Body, Bridge, IncomingRequest
from server.rest.cross_origin import check_origin, check_simple_request
from server.rest.failures import HANDLERS
from server.rest.infer_json import InferDocument, response_document
from server.rest.json_messages import to_dict
from server.rest.views import Views
from server.services.autoencoder.service import SERVICE as AUTOENCODER_SERVICE
from server.services.open_inference.service import SERVICE

_MAX_CONTROL_BYTES = 64 * 1024
ControlRequest: TypeAlias = pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest
_NOT_READY = 503
# Outputs written as numbers in JSON on the event loop; more of them would block it for longer than a batch does.
_INLINE_JSON_BYTES = 16 * 1024
# The same of messages, whose fields take longer.
_INLINE_MESSAGE_BYTES = 2 * 1024
_MODEL = "/v2/models/{name}"
_VERSION = "/v2/models/{name}/versions/{version}"


def application(bridge: Bridge, config: Config, views: Views) -> Starlette:
    """The ASGI application."""
    service = Rest(bridge, config, views)
    routes = [
        Route("/v2", service.server_metadata),
        Route("/v2/health/live", service.live),
        Route("/v2/health/ready", service.ready),
        Route("/v2/models/stats", service.statistics),
        Route("/v2/repository/index", service.index, methods=["POST"]),
        Route("/v2/repository/models/{name}/load", partial(service.control, "RepositoryModelLoad"), methods=["POST"]),
        Route(
            "/v2/repository/models/{name}/unload", partial(service.control, "RepositoryModelUnload"), methods=["POST"]
        ),
    ]
    for base in (_MODEL, _VERSION):
        routes += [
            Route(base, service.model_metadata),
            Route(f"{base}/ready", service.model_ready),
            Route(f"{base}/config", service.model_config),
            Route(f"{base}/stats", service.statistics),
            Route(f"{base}/infer", service.infer, methods=["POST"]),
        ]
    routes += [
        Route(f"/v1/{method}", partial(service.typed, method), methods=["POST"])
        for method in bridge.methods(AUTOENCODER_SERVICE)
    ]
    routes += [Route("/v1/models/{name}/reference", service.reference), Route("/v1/metrics", service.metrics)]
    if config.explorer:
        routes += page.routes()
    return Starlette(routes=routes, exception_handlers=HANDLERS)


class Rest:
    """HTTP requests to calls, and responses to documents."""

    def __init__(self, bridge: Bridge, config: Config, views: Views) -> None:
        self._bridge = bridge
        self._views = views
        self._host = config.host
        self._max_rows = config.max_request_rows
        self._bodies = BodyReader(config.max_heavy_bytes)

    async def live(self, request: Request) -> Response:
        """Liveness of the server."""
        answer = pb.ServerLiveResponse.FromString(await self._call("ServerLive", request))
        return JSONResponse({"live": answer.live})

    async def ready(self, request: Request) -> Response:
        """Readiness of the server; a status other than 200 means not ready, for probes."""
        answer = pb.ServerReadyResponse.FromString(await self._call("ServerReady", request))
        return JSONResponse({"ready": answer.ready}, 200 if answer.ready else _NOT_READY)

    async def model_ready(self, request: Request) -> Response:
        """Readiness of a model."""
        answer = pb.ModelReadyResponse.FromString(await self._call("ModelReady", request, **_path(request)))
        name = request.path_params["name"]
        return JSONResponse({"name": name, "ready": answer.ready}, 200 if answer.ready else _NOT_READY)

    async def server_metadata(self, request: Request) -> Response:
        """Name, version and extensions of the server."""
        answer = pb.ServerMetadataResponse.FromString(await self._call("ServerMetadata", request))
        return JSONResponse(to_dict(answer) | {"extensions": [*answer.extensions, "binary_tensor_data"]})

    async def model_metadata(self, request: Request) -> Response:
        """Inputs and outputs of a graph."""
        data = await self._call("ModelMetadata", request, **_path(request))
        return JSONResponse(to_dict(pb.ModelMetadataResponse.FromString(data)))

    async def model_config(self, request: Request) -> Response:
        """Configuration of a graph."""
        data = await self._call("ModelConfig", request, **_path(request))
        return JSONResponse(to_dict(pb.ModelConfigResponse.FromString(data).config))

    async def statistics(self, request: Request) -> Response:
        """Request and run statistics of graphs."""
        data = await self._call("ModelStatistics", request, **_path(request))
        return JSONResponse(to_dict(pb.ModelStatisticsResponse.FromString(data)))

    async def index(self, request: Request) -> Response:
        """Models and their states."""
        incoming = _incoming(request, partial(self._bodies.receive, request, _index_request, _MAX_CONTROL_BYTES))
        data = await self._bridge.call(SERVICE, "RepositoryIndex", incoming)
        return JSONResponse([to_dict(model) for model in pb.RepositoryIndexResponse.FromString(data).models])

    async def control(self, method: str, request: Request) -> Response:
        """Load or unload a model, if that is allowed."""
        kind = pb.RepositoryModelLoadRequest if method == "RepositoryModelLoad" else pb.RepositoryModelUnloadRequest
        name: str = request.path_params["name"]
        await self._bridge.call(
            SERVICE, method, _incoming(request, partial(self._receive_control, request, kind, name))
        )
        return JSONResponse({})

    async def _receive_control(self, request: Request, kind: type[ControlRequest], name: str) -> Body:
        check_origin(request, self._host)
        return await self._bodies.receive(request, partial(_control_request, kind, name), _MAX_CONTROL_BYTES)

    async def infer(self, request: Request) -> Response:
        """Run a graph."""
        documents: list[InferDocument] = []
        read = partial(_infer_request, request, documents)
        data = await self._bridge.call(
            SERVICE,
            "ModelInfer",
            _incoming(request, partial(self._bodies.receive, request, read, self._bridge.max_message_bytes)),
        )
        document, binary = await _response(documents[0], pb.ModelInferResponse.FromString(data))
        if not binary:
            return Response(document, media_type="application/json")
        headers = {JSON_BYTES: str(len(document))}
        return Response(document + binary, media_type="application/octet-stream", headers=headers)

    async def typed(self, method: str, request: Request) -> Response:
        """Call a unary method of autoencoder.v1."""
        kinds: list[type[Message]] = [getattr(autoencoder_pb2, f"{method}{end}") for end in ("Request", "Response")]
        read = partial(protobuf_json_reader.read, kinds[0], self._max_rows)
        receive = partial(self._receive_typed, request, read)
        data = await self._bridge.call(AUTOENCODER_SERVICE, method, _incoming(request, receive))
        response = kinds[1].FromString(data)
        if len(data) <= _INLINE_MESSAGE_BYTES:
            document = protobuf_json_writer.write(response)
        else:
            document = await asyncio.to_thread(protobuf_json_writer.write, response)
        return Response(document, media_type="application/json")

    async def _receive_typed(self, request: Request, read: Callable[[bytes], Message]) -> Body:
        check_simple_request(request)
        return await self._bodies.receive(request, read, self._bridge.max_message_bytes)

    async def reference(self, request: Request) -> Response:
        """Where a model's latents lie."""
        self._bridge.check(AUTOENCODER_SERVICE, "GetModel", _metadata(request))
        name, version = request.path_params["name"], request.query_params.get("version", "")
        # Written on another thread too: axes of a wide latent are a MiB.
        return await asyncio.to_thread(lambda: JSONResponse(self._views.reference(name, version)))

    async def metrics(self, request: Request) -> Response:
        """Readiness and some metrics."""
        self._bridge.check(AUTOENCODER_SERVICE, "ListModels", _metadata(request))
        return JSONResponse(await asyncio.to_thread(self._views.metrics))

    async def _call(self, method: str, request: Request, **fields: str) -> bytes:
        message: type[Message] = getattr(pb, f"{method}Request")
        return await self._bridge.call(
            SERVICE, method, _incoming(request, partial(_no_body, partial(message, **fields)))
        )


def _incoming(request: Request, receive: Callable[[], Awaitable[Body]]) -> IncomingRequest:
    return IncomingRequest(receive, _metadata(request), _peer(request), partial(_until_disconnected, request))


async def _no_body(read: Callable[[], Message]) -> Body:
    """The body of a request that its path describes completely."""
    return Body(read)


async def _response(document: InferDocument, response: pb.ModelInferResponse) -> tuple[bytes, bytes]:
    """JSON and the binary data after it; long JSON is written on another thread, to keep the event loop free."""
    if document.json_bytes(response) <= _INLINE_JSON_BYTES:
        return response_document(document, response)
    return await asyncio.to_thread(response_document, document, response)


def _path(request: Request) -> dict[str, str]:
    return {key: request.path_params[key] for key in ("name", "version") if key in request.path_params}


def _peer(request: Request) -> str:
    return "" if request.client is None else f"http:{request.client.host}:{request.client.port}"


def _metadata(request: Request) -> Metadata:
    return tuple((key, value) for key, value in request.headers.items())


def _infer_request(request: Request, documents: list[InferDocument], body: bytes) -> Message:
    """The message; the document is appended to `documents`, because the response depends on it."""
    name, version = request.path_params["name"], request.path_params.get("version", "")
    documents.append(InferDocument(name, version, body, json_bytes(request, body)))
    return documents[0].message


def _index_request(body: bytes) -> Message:
    return pb.RepositoryIndexRequest(ready=json_object(body).get("ready") is True)


def _control_request(kind: type[ControlRequest], name: str, body: bytes) -> Message:
    """The request with the names of its parameters only: every parameter is refused or ignored."""
    made = kind(model_name=name)
    parameters = json_object(body).get("parameters")
    for parameter in cast("dict[str, object]", parameters) if isinstance(parameters, dict) else ():
        made.parameters[parameter].bool_param = True
    return made


async def _until_disconnected(request: Request) -> None:
    """Return when the client has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
