"""Errors that carry their gRPC status, and the one place where any exception becomes a status."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status as RpcStatus
from grpc import StatusCode

_LOGGER = logging.getLogger(__name__)
_MAX_MESSAGE_BYTES = 1200
# An estimate may be zero, and an immediate retry would add to the overload.
_SHORTEST_RETRY_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Status:
    """How a failed call ends: code, message, and a serialised google.rpc.Status if there are details."""

    code: StatusCode
    message: str
    details: bytes | None = None

    @property
    def number(self) -> int:
        """The code on the wire."""
        return int(self.code.value[0])


class ServingError(Exception):
    """A request that cannot be answered; the message says what was expected, what the request had, and what to do."""

    code = StatusCode.INTERNAL
    counted: StatusCode | None = None
    """The code in the metrics, if it is not that of the answer."""

    def __init__(self, message: str, details: Sequence[Message] = ()) -> None:
        super().__init__(message)
        self.message = _clip(message)
        self.details = details

    def status(self) -> Status:
        """Code, message and packed details."""
        return Status(self.code, self.message, _pack(self.code, self.message, self.details) if self.details else None)


class InvalidArgumentError(ServingError):
    """A field of the request is wrong; `field` is its path in the message."""

    code = StatusCode.INVALID_ARGUMENT

    def __init__(self, field: str, message: str) -> None:
        violation = BadRequest.FieldViolation(field=field, description=_clip(message))
        super().__init__(f"{field}: {message}", [BadRequest(field_violations=[violation])])


class NotFoundError(ServingError):
    """No such model or version."""

    code = StatusCode.NOT_FOUND


class UnauthenticatedError(ServingError):
    """No credentials, or wrong ones."""

    code = StatusCode.UNAUTHENTICATED


class PermissionDeniedError(ServingError):
    """The caller may not do this, or it is disabled on this port."""

    code = StatusCode.PERMISSION_DENIED


class UnavailableError(ServingError):
    """Temporarily unavailable: starting, draining, or the model is loading or has failed."""

    code = StatusCode.UNAVAILABLE


class WrongMethodError(ServingError):
    """The model cannot serve this method."""

    code = StatusCode.FAILED_PRECONDITION


class UnimplementedError(ServingError):
    """No such method in this build."""

    code = StatusCode.UNIMPLEMENTED


class TooLargeError(ServingError):
    """The message exceeds the limit; no retry will help.

    grpc itself refuses such a message before any handler, so that only the native transport counts it as a request.
    """

    code = StatusCode.RESOURCE_EXHAUSTED
    # Not overload: more servers would not help.
    counted = StatusCode.INVALID_ARGUMENT

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        # gRPC's own message, so that both transports return the same.
        super().__init__(f"SERVER: Received message larger than max ({size_bytes} vs. {limit_bytes})")


class OverloadedError(ServingError):
    """The queue is too full (backpressure); `retry_seconds` is how long to wait before a retry."""

    code = StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, message: str, retry_seconds: float) -> None:
        delay = Duration()
        delay.FromNanoseconds(int(max(retry_seconds, _SHORTEST_RETRY_SECONDS) * 1e9))
        super().__init__(message, [RetryInfo(retry_delay=delay)])


class OutOfRangeError(ServingError):
    """The result does not fit into the requested format."""

    code = StatusCode.OUT_OF_RANGE


class DeadlineError(ServingError):
    """The caller's deadline has passed."""

    code = StatusCode.DEADLINE_EXCEEDED


class CancelledError(ServingError):
    """The caller has cancelled."""

    code = StatusCode.CANCELLED


def status_of(error: BaseException, request_id: str) -> Status:
    """Status of any exception; one not meant for callers is logged with the request's id."""
    if isinstance(error, ServingError):
        return error.status()
    _LOGGER.error("request %s failed", request_id, exc_info=error)
    message = f"The server failed to answer; its log has the reason under request id {request_id}."
    details = _pack(StatusCode.INTERNAL, message, [RequestInfo(request_id=request_id)])
    return Status(StatusCode.INTERNAL, message, details)


def _clip(text: str) -> str:
    """Truncate a message: it travels in headers, whose size clients limit, and may repeat what a caller sent."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= _MAX_MESSAGE_BYTES else f"{data[:_MAX_MESSAGE_BYTES].decode(errors='ignore')}…"


def _pack(code: StatusCode, message: str, details: Sequence[Message]) -> bytes:
    packed: list[any_pb2.Any] = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return RpcStatus(code=int(code.value[0]), message=message, details=packed).SerializeToString()
