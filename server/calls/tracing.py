"""OpenTelemetry traces: W3C context in, OTLP out; nothing of it is imported unless `--otlp-endpoint` is set.

A request is a server span with the children queue, run and serialise. A graph run that carried several requests is a
trace of its own, linked to all of them, and each request's run span links to it.
"""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from server.calls.call import Call, Metadata


class TracingError(Exception):
    """Traces cannot be sent."""


class Trace(Protocol):
    """The spans of one call."""

    trace_id: str

    def finish(self, call: "Call", code: str) -> None:
        """End the request's span."""
        ...


class Tracer(Protocol):
    """Makes spans of what calls and batches do."""

    def begin(self, call: "Call", metadata: "Metadata") -> Trace | None:
        """Start the span of a request; None when it is not sampled."""
        ...

    def ran(self, graph: "Graph", calls: Iterable["Call"], started: float, seconds: float) -> None:
        """Record a graph run that began at `started` of time.monotonic()."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


class Graph:
    """What a run is called in traces."""

    def __init__(self, model: str, version: str, signature: str) -> None:
        self.attributes = {"hourglass.model": model, "hourglass.version": version, "hourglass.signature": signature}


def open_tracer(endpoint: str | None, sample_ratio: float) -> Tracer | None:
    """Tracer that sends to an OTLP/gRPC endpoint; None without one.

    Raises:
        TracingError: the packages are not installed.
    """
    if endpoint is None:
        return None
    try:
        from server.calls.otlp import OtlpTracer  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise TracingError("--otlp-endpoint needs the extra: pip install 'hourglass[tracing]'") from error
    return OtlpTracer(endpoint, sample_ratio)


class Clock:
    """Turns moments of time.monotonic() into nanoseconds since 1970; one for each trace, because clocks are set."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def ns(self, moment: float) -> int:
        """Nanoseconds since 1970."""
        return self._offset_ns + int(moment * 1e9)
