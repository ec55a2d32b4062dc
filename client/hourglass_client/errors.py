"""What a call can fail with.

HourglassError
├── InvalidArgumentError     (ValueError)   the request is wrong; `violations` name the fields
├── NotFoundError            (LookupError)  no such model or version
├── FailedPreconditionError                 the model lacks this method
├── UnimplementedError                      the server lacks this method
├── ResourceExhaustedError                  too large, or, with `retry_after_seconds`, too busy
├── UnavailableError                        not reachable, starting or draining
├── DeadlineExceededError    (TimeoutError) no answer in time
├── CancelledError                          given up here, or the client was closed meanwhile
├── UnauthenticatedError                    no credentials, or wrong ones
├── PermissionDeniedError                   credentials without the right
└── InternalError                           anything else
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self, cast

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

_STATUS_KEY = "grpc-status-details-bin"
_DETAILS = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        error_details_pb2.BadRequest,
        error_details_pb2.DebugInfo,
        error_details_pb2.ErrorInfo,
        error_details_pb2.Help,
        error_details_pb2.LocalizedMessage,
        error_details_pb2.PreconditionFailure,
        error_details_pb2.QuotaFailure,
        error_details_pb2.RequestInfo,
        error_details_pb2.ResourceInfo,
        error_details_pb2.RetryInfo,
    )
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request that the server refused, and why."""

    field: str
    description: str


class HourglassError(Exception):
    """A call that failed: gRPC status, the server's sentence, and its google.rpc details."""

    def __init__(self, code: grpc.StatusCode, message: str, details: tuple[Message, ...] = ()) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.details = details

    def __reduce__(self) -> tuple[type[Self], tuple[grpc.StatusCode, str, tuple[Message, ...]]]:
        """How it crosses to another process: by default an exception is made again from its text alone."""
        return type(self), (self.code, self.message, self.details)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Fields that the server refused."""
        refused = (detail for detail in self.details if isinstance(detail, error_details_pb2.BadRequest))
        return tuple(Violation(each.field, each.description) for one in refused for each in one.field_violations)

    @property
    def retry_after_seconds(self) -> float | None:
        """How long the server asks to wait before another try; None if it names no time."""
        for detail in self.details:
            if isinstance(detail, error_details_pb2.RetryInfo):
                return detail.retry_delay.ToNanoseconds() / 1e9
        return None


class InvalidArgumentError(HourglassError, ValueError):
    """The request is wrong, here or in the server's eyes."""


class NotFoundError(HourglassError, LookupError):
    """No such model or version."""


class FailedPreconditionError(HourglassError):
    """The model lacks this method."""


class UnimplementedError(HourglassError):
    """The server lacks this method."""


class ResourceExhaustedError(HourglassError):
    """Message too large, or server too busy: the latter names a time to wait."""


class UnavailableError(HourglassError):
    """Not reachable, starting or draining."""


class DeadlineExceededError(HourglassError, TimeoutError):
    """No answer in time."""


class CancelledError(HourglassError):
    """Given up here, or the client was closed meanwhile."""


class UnauthenticatedError(HourglassError):
    """No credentials, or wrong ones."""


class PermissionDeniedError(HourglassError):
    """Credentials without the right."""


class InternalError(HourglassError):
    """Any other failure."""


_KINDS: dict[grpc.StatusCode, type[HourglassError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.UNIMPLEMENTED: UnimplementedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.CANCELLED: CancelledError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
}
# gRPC's own words when the deadline passes here.
_NO_ANSWER = "Deadline Exceeded"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def invalid(field: str, description: str) -> InvalidArgumentError:
    """The error for a request that needs no server to be seen as wrong."""
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field=field, description=description)
    return InvalidArgumentError(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {description}", (bad,))


def closed() -> CancelledError:
    """The error for a call of a client that was closed before."""
    return CancelledError(grpc.StatusCode.CANCELLED, "this client is closed: make another one")


def from_call(call: grpc.RpcError) -> HourglassError:
    """The error of a failed call."""
    code = call.code()
    status = _status(call)
    message = call.details() or code.value[1]
    if message == _NO_ANSWER:
        message = "no answer within the timeout: give more time, or ask less"
    return _KINDS.get(code, InternalError)(code, message, _unpacked(status.details))


def from_status(status: status_pb2.Status) -> HourglassError:
    """The error of a failed item on a stream."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _KINDS.get(code, InternalError)(code, status.message, _unpacked(status.details))


def _status(call: grpc.RpcError) -> status_pb2.Status:
    # The types of the two flavours of gRPC disagree; both give pairs.
    for key, value in cast("Iterable[tuple[str, str | bytes]]", call.trailing_metadata() or ()):
        if key == _STATUS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()


def _unpacked(details: Sequence[Any]) -> tuple[Message, ...]:
    """Details of the types that google.rpc defines, opened; others as they came."""
    return tuple(_open(packed) for packed in details)


def _open(packed: Any) -> Message:
    kind = _DETAILS.get(packed.TypeName())
    if kind is None:
        return packed
    try:
        return kind.FromString(packed.value)
    except DecodeError:
        return packed
