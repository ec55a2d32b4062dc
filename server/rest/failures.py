"""Exception handlers: errors to HTTP statuses with a JSON document."""

import math
from typing import Any

from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status as RpcStatus
from grpc import StatusCode
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from server.errors import ServingError, Status
from server.rest.bridge import StatusError

_HTTP = {
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    # HTTP has no deadlines: only a body can be late.
    StatusCode.DEADLINE_EXCEEDED: 408,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.CANCELLED: 499,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
}
_TOO_LARGE = 413


async def _failure(request: Request, error: StatusError) -> Response:
    del request
    status = error.status
    http = _HTTP.get(status.code, 500)
    headers: dict[str, str] = {}
    if status.code is StatusCode.RESOURCE_EXHAUSTED:
        # Overload has a hint when to retry; a request that is too large has none.
        seconds = _retry_seconds(status)
        http, headers = (_TOO_LARGE, {}) if seconds is None else (http, {"retry-after": str(seconds)})
    elif status.code is StatusCode.DEADLINE_EXCEEDED:
        # The rest of the body must not be parsed as another request.
        headers = {"connection": "close"}
    return JSONResponse({"error": status.message}, http, headers)


async def _refused(request: Request, error: ServingError) -> Response:
    return await _failure(request, StatusError(error.status()))


def _retry_seconds(status: Status) -> int | None:
    """When to retry, in whole seconds as in HTTP; None if a retry cannot succeed."""
    hint = RetryInfo()
    for detail in RpcStatus.FromString(status.details or b"").details:
        if detail.Unpack(hint):
            return max(1, math.ceil(hint.retry_delay.ToNanoseconds() / 1e9))
    return None


async def _no_route(request: Request, error: HTTPException) -> Response:
    del request
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _disconnected(request: Request, error: ClientDisconnect) -> Response:
    del request, error
    return Response(status_code=_HTTP[StatusCode.CANCELLED])


HANDLERS: dict[Any, Any] = {
    StatusError: _failure,
    ServingError: _refused,
    HTTPException: _no_route,
    ClientDisconnect: _disconnected,
}
"""By exception, for Starlette."""
