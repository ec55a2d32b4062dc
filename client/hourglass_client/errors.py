"""Exceptions of the client, one for each gRPC status.

HourglassError
├── InvalidArgumentError     (ValueError)   the request is invalid; `violations` name the fields
├── NotFoundError            (LookupError)  no such model or version
├── FailedPreconditionError                 the model lacks this method
├── UnimplementedError                      the server lacks this method
├── ResourceExhaustedError                  too large, or, with `retry_after_seconds`, too busy
├── UnavailableError                        not reachable, starting or draining
├── DeadlineExceededError    (TimeoutError) no answer in time
├── CancelledError                          cancelled here, or the client was closed
├── UnauthenticatedError                    no credentials, or invalid ones
├── PermissionDeniedError                   the credentials do not grant access
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
    """A field of the request that was rejected, and why."""

    field: str
    description: str


class HourglassError(Exception):
    """A failed call: gRPC status, the server's message, and its google.rpc details."""

    def __init__(self, code: grpc.StatusCode, message: str, details: tuple[Message, ...] = ()) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.details = details

    def __reduce__(self) -> tuple[type[Self], tuple[grpc.StatusCode, str, tuple[Message, ...]]]:
        """Pickled with code and details; by default an exception keeps its text alone."""
        return type(self), (self.code, self.message, self.details)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Fields that were rejected."""
        rejected = (detail for detail in self.details if isinstance(detail, error_details_pb2.BadRequest))
        return tuple(Violation(each.field, each.description) for one in rejected for each in one.field_violations)

    @property
    def retry_after_seconds(self) -> float | None:
        """How long the server asks to wait before a retry; None if it does not say."""
        for detail in self.details:
            if isinstance(detail, error_details_pb2.RetryInfo):
                return detail.retry_delay.ToNanoseconds() / 1e9
        return None


class InvalidArgumentError(HourglassError, ValueError):
    """The request is invalid: the client or the server rejected it."""


class NotFoundError(HourglassError, LookupError):
    """No such model or version."""


class FailedPreconditionError(HourglassError):
    """The model lacks this method."""


class UnimplementedError(HourglassError):
    """The server lacks this method."""


class ResourceExhaustedError(HourglassError):
    """Message too large, or server too busy; the latter comes with `retry_after_seconds`."""


class UnavailableError(HourglassError):
    """Not reachable, starting or draining."""


class DeadlineExceededError(HourglassError, TimeoutError):
    """No answer in time."""


class CancelledError(HourglassError):
    """Cancelled here, or the client was closed."""


class UnauthenticatedError(HourglassError):
    """No credentials, or invalid ones."""


class PermissionDeniedError(HourglassError):
    """The credentials do not grant access."""


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
# What gRPC says, and what a caller can do about it.
_REWORDED = {
    "Deadline Exceeded": "no answer within the timeout: allow more time or ask for less",
    # On the server's side, with the sizes in brackets after it.
    "SERVER: Received message larger than max": (
        "the request is larger than the server accepts{rest}: send fewer items a request, for example with map, or "
        "raise the server's --max-message-bytes"
    ),
}
# The end of a server's message about too many images or latents.
_TOO_MANY = "send several requests"
# gRPC's message when this process has forked and gRPC closed the connection under the call.
_FORKED = "on fork"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def invalid(field: str, description: str) -> InvalidArgumentError:
    """The error for a request that the client rejects without asking the server."""
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field=field, description=description)
    return InvalidArgumentError(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {description}", (bad,))


def closed() -> CancelledError:
    """The error for a call on a closed client."""
    return CancelledError(grpc.StatusCode.CANCELLED, "this client is closed: create a new one")


def inherited() -> CancelledError:
    """The error for a call on a client whose connection gRPC closed because the process forked."""
    return CancelledError(
        grpc.StatusCode.CANCELLED, "this client was created before a fork, which closed it: create one in each process"
    )


def unpicklable() -> TypeError:
    """The error for pickling or copying a client."""
    return TypeError("a client cannot be pickled or copied, its connection is this process's own: create one in each")


def from_call(call: grpc.RpcError, proxy_advice: str = "") -> HourglassError:
    """The error of a failed call; `proxy_advice` is added where the server may not have been reached."""
    code = call.code()
    status = _status(call)
    message = _reworded(call.details() or code.value[1])
    if code is grpc.StatusCode.CANCELLED and _FORKED in message:
        # Nobody cancelled it: like any connection that breaks, so a retry helps.
        code = grpc.StatusCode.UNAVAILABLE
    if code is grpc.StatusCode.UNAVAILABLE and proxy_advice:
        message = f"{message}; {proxy_advice}"
    return _KINDS.get(code, InternalError)(code, message, _unpacked(status.details))


def _reworded(message: str) -> str:
    for words, better in _REWORDED.items():
        if message.startswith(words):
            return better.format(rest=message.removeprefix(words))
    return f"{message}, for example with map" if message.endswith(_TOO_MANY) else message


def from_status(status: status_pb2.Status) -> HourglassError:
    """The error of a failed item on a stream."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return _KINDS.get(code, InternalError)(code, status.message, _unpacked(status.details))


def _status(call: grpc.RpcError) -> status_pb2.Status:
    # The types of grpc and grpc.aio disagree; both give pairs.
    for key, value in cast("Iterable[tuple[str, str | bytes]]", call.trailing_metadata() or ()):
        if key == _STATUS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()


def _unpacked(details: Sequence[Any]) -> tuple[Message, ...]:
    """Details unpacked where google.rpc defines their type, others unchanged."""
    return tuple(_open(packed) for packed in details)


def _open(packed: Any) -> Message:
    kind = _DETAILS.get(packed.TypeName())
    if kind is None:
        return packed
    try:
        return kind.FromString(packed.value)
    except DecodeError:
        return packed
