"""The protocol's paths, a few lines each."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from google.protobuf.message import Message
from grpc import StatusCode
from inference import open_inference_pb2 as pb
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from server.call import Metadata
from server.errors import InvalidArgumentError, TooLargeError
from server.rest.core import Core, Sent, StatusError
from server.rest.documents import InferDocument, response_document
from server.rest.plain import plain

JSON_BYTES = "inference-header-content-length"
_HTTP = {
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.CANCELLED: 499,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DEADLINE_EXCEEDED: 504,
}
_TOO_LARGE = 413
_NOT_READY = 503
_MODEL = "/v2/models/{name}"
_VERSION = "/v2/models/{name}/versions/{version}"


def application(core: Core) -> Starlette:
    """The ASGI application."""
    service = Rest(core)
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
    handlers: dict[Any, Any] = {
        StatusError: _failed,
        HTTPException: _no_route,
        ClientDisconnect: _gone,
    }
    return Starlette(routes=routes, exception_handlers=handlers)


class Rest:
    """HTTP requests to calls, and responses to documents."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def live(self, request: Request) -> Response:
        """Whether the server runs."""
        answer = pb.ServerLiveResponse.FromString(await self._ask("ServerLive", request))
        return JSONResponse({"live": answer.live})

    async def ready(self, request: Request) -> Response:
        """Whether it should get traffic; another status than 200 says no, for probes."""
        answer = pb.ServerReadyResponse.FromString(await self._ask("ServerReady", request))
        return JSONResponse({"ready": answer.ready}, 200 if answer.ready else _NOT_READY)

    async def model_ready(self, request: Request) -> Response:
        """Whether a model serves."""
        answer = pb.ModelReadyResponse.FromString(await self._ask("ModelReady", request, **_path(request)))
        name = request.path_params["name"]
        return JSONResponse({"name": name, "ready": answer.ready}, 200 if answer.ready else _NOT_READY)

    async def server_metadata(self, request: Request) -> Response:
        """What the server is."""
        answer = pb.ServerMetadataResponse.FromString(await self._ask("ServerMetadata", request))
        return JSONResponse(plain(answer) | {"extensions": [*answer.extensions, "binary_tensor_data"]})

    async def model_metadata(self, request: Request) -> Response:
        """Inputs and outputs of a graph."""
        data = await self._ask("ModelMetadata", request, **_path(request))
        return JSONResponse(plain(pb.ModelMetadataResponse.FromString(data)))

    async def model_config(self, request: Request) -> Response:
        """Configuration of a graph."""
        data = await self._ask("ModelConfig", request, **_path(request))
        return JSONResponse(plain(pb.ModelConfigResponse.FromString(data).config))

    async def statistics(self, request: Request) -> Response:
        """What graphs have done."""
        data = await self._ask("ModelStatistics", request, **_path(request))
        return JSONResponse(plain(pb.ModelStatisticsResponse.FromString(data)))

    async def index(self, request: Request) -> Response:
        """Models and their states."""
        data = await self._core.ask("RepositoryIndex", await self._sent(request, _index_request))
        return JSONResponse([plain(model) for model in pb.RepositoryIndexResponse.FromString(data).models])

    async def control(self, method: str, request: Request) -> Response:
        """Load or unload a model, where that is allowed."""
        kind = pb.RepositoryModelLoadRequest if method == "RepositoryModelLoad" else pb.RepositoryModelUnloadRequest
        name: str = request.path_params["name"]
        await self._core.ask(method, await self._sent(request, partial(_control_request, kind, name)))
        return JSONResponse({})

    async def infer(self, request: Request) -> Response:
        """Run a graph."""
        asked: list[InferDocument] = []
        data = await self._core.ask("ModelInfer", await self._sent(request, partial(_infer_request, request, asked)))
        document, binary = response_document(asked[0], pb.ModelInferResponse.FromString(data))
        if not binary:
            return Response(document, media_type="application/json")
        headers = {JSON_BYTES: str(len(document))}
        return Response(document + binary, media_type="application/octet-stream", headers=headers)

    async def _ask(self, method: str, request: Request, **fields: str) -> bytes:
        message: type[Message] = getattr(pb, f"{method}Request")
        sent = Sent(partial(message, **fields), 0, _metadata(request), partial(_leave, request))
        return await self._core.ask(method, sent)

    async def _sent(self, request: Request, read: Callable[[bytes], Message]) -> Sent:
        """A request with a body, of which no more is read than the limit on messages."""
        limit = self._core.max_message_bytes
        parts: list[bytes] = []
        size = int(request.headers.get("content-length", 0))
        if size <= limit:
            size = 0
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > limit:
                    break
        body = b"".join(parts)
        check = partial(_check_body, size, limit, request.headers.get("content-encoding", "identity"))
        return Sent(partial(_read, check, read, body), len(body), _metadata(request), partial(_leave, request))


def _path(request: Request) -> dict[str, str]:
    return {key: request.path_params[key] for key in ("name", "version") if key in request.path_params}


def _metadata(request: Request) -> Metadata:
    return tuple((key, value) for key, value in request.headers.items())


def _check_body(size_bytes: int, limit_bytes: int, encoding: str) -> None:
    if size_bytes > limit_bytes:
        raise TooLargeError(size_bytes, limit_bytes)
    if encoding != "identity":
        raise InvalidArgumentError("content-encoding", f"wanted the body as it is, got {encoding[:60]!r}")


def _read(check: Callable[[], None], read: Callable[[bytes], Message], body: bytes) -> Message:
    check()
    return read(body)


def _infer_request(request: Request, asked: list[InferDocument], body: bytes) -> Message:
    """The message; the document goes to `asked`, because the response depends on it."""
    name, version = request.path_params["name"], request.path_params.get("version", "")
    asked.append(InferDocument(name, version, body, _json_bytes(request, body)))
    return asked[0].message


def _index_request(body: bytes) -> Message:
    return pb.RepositoryIndexRequest(ready=_json_object(body).get("ready") is True)


def _control_request(
    kind: type[pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest], name: str, body: bytes
) -> Message:
    """What the parameters say is refused or ignored, so that their names are enough."""
    made = kind(model_name=name)
    parameters = _json_object(body).get("parameters")
    for parameter in cast("dict[str, object]", parameters) if isinstance(parameters, dict) else ():
        made.parameters[parameter].bool_param = True
    return made


def _json_object(body: bytes) -> dict[str, object]:
    try:
        document: Any = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError("request", f"wanted a JSON object: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArgumentError("request", "wanted a JSON object, got something else")
    return cast("dict[str, object]", document)


def _json_bytes(request: Request, body: bytes) -> int | None:
    given = request.headers.get(JSON_BYTES)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and int(given) <= len(body)):
        raise InvalidArgumentError(
            JSON_BYTES, f"wanted the size of the JSON in a body of {len(body)} bytes, got {given[:60]!r}"
        )
    return int(given)


async def _leave(request: Request) -> None:
    """Return when the caller has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _failed(request: Request, error: StatusError) -> Response:
    del request
    status = error.status
    http = _HTTP.get(status.code, 500)
    headers: dict[str, str] = {}
    if status.code is StatusCode.RESOURCE_EXHAUSTED:
        # Too busy comes with a hint when to try again, too large without one.
        http, headers = (_TOO_LARGE, {}) if status.details is None else (http, {"retry-after": "1"})
    return JSONResponse({"error": status.message}, http, headers)


async def _no_route(request: Request, error: HTTPException) -> Response:
    del request
    return JSONResponse({"error": error.detail}, error.status_code)


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    del request, error
    return Response(status_code=_HTTP[StatusCode.CANCELLED])
