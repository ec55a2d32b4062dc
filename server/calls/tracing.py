"""OpenTelemetry tracing: W3C context in, OTLP out; none of it is imported unless `--otlp-endpoint` is set.

A request is a server span with the children queue, run and serialise. A graph run that carried several requests is a
trace of its own, linked to all of them, and each request's run span links to it.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from server.calls.call import Call, Metadata, Trace


class TracingError(Exception):
    """Traces cannot be sent."""


class Tracer(Protocol):
    """Records what calls and batches do as spans."""

    def begin(self, call: Call, metadata: Metadata) -> Trace | None:
        """Start the span of a request; None when it is not sampled."""
        ...

    def ran(self, attributes: Mapping[str, str], calls: Iterable[Call], started: float, seconds: float) -> None:
        """Record a graph run that began at `started` of time.monotonic()."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


def run_attributes(model: str, version: str, signature: str) -> Mapping[str, str]:
    """Attributes of a graph run in traces."""
    return {"hourglass.model": model, "hourglass.version": version, "hourglass.signature": signature}


def open_tracer(endpoint: str | None, sample_ratio: float) -> Tracer | None:
    """Make a tracer that sends to an OTLP/gRPC endpoint; None without one.

    Raises:
        TracingError: the packages are not installed.
    """
    if endpoint is None:
        return None
    try:
        from server.calls.otlp import OtlpTracer  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise TracingError("--otlp-endpoint needs an extra: pip install '.[tracing]' in a checkout") from error
    return OtlpTracer(endpoint, sample_ratio)
