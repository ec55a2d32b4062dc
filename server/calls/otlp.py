"""The tracer that sends spans over OTLP/gRPC."""

import time
from collections.abc import Iterable, Mapping
from threading import Lock

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server.calls.call import Call, Metadata, Trace

_SERVER_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})


class _Clock:
    """Converts times of time.monotonic() to nanoseconds since 1970; one per trace: the system clock may be set."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def ns(self, moment: float) -> int:
        """Nanoseconds since 1970."""
        return self._offset_ns + int(moment * 1e9)


class OtlpTracer:
    """Spans of one server."""

    def __init__(self, endpoint: str, sample_ratio: float) -> None:
        ours = Resource.create({SERVICE_NAME: "hourglass"})
        # The environment's own name of the service goes before ours.
        resource = ours.merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(sample_ratio), resource=resource, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("hourglass.server")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, call: Call, metadata: Metadata) -> Trace | None:
        """Start a request's span under the caller's, if it sent one."""
        clock = _Clock()
        span = self._tracer.start_span(
            call.method,
            context=self._propagator.extract({key: value for key, value in metadata if isinstance(value, str)}),
            kind=SpanKind.SERVER,
            start_time=clock.ns(call.arrival),
            attributes={"rpc.system": "grpc", "rpc.method": call.method},
        )
        return OtlpTrace(self._tracer, span, clock) if span.is_recording() else None

    def ran(self, attributes: Mapping[str, str], calls: Iterable[Call], started: float, seconds: float) -> None:
        """Record the batch, and in each request how long it waited and ran."""
        traced = [(call, call.trace) for call in dict.fromkeys(calls) if isinstance(call.trace, OtlpTrace)]
        if not traced:
            return
        clock = _Clock()
        links = [Link(request.context) for _, request in traced]
        batch = self._tracer.start_span(
            "batch", Context(), links=links, start_time=clock.ns(started), attributes=attributes
        )
        batch.end(clock.ns(started + seconds))
        for call, request in traced:
            queued = started if call.entry is None else call.entry.queued
            request.add("queue", queued, started, attributes)
            request.add("run", started, started + seconds, attributes, [Link(batch.get_span_context())])
            request.ran_until(started + seconds)

    def close(self) -> None:
        """Send what is left, and stop."""
        self._provider.shutdown()


class OtlpTrace:
    """The spans of one request."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span, clock: _Clock) -> None:
        self.context: SpanContext = span.get_span_context()
        self.trace_id = trace.format_trace_id(self.context.trace_id)
        self._tracer = tracer
        self._span = span
        self._parent = trace.set_span_in_context(span, Context())
        self._clock = clock
        self._ran_until = 0.0
        self._lock = Lock()

    def add(
        self, name: str, start: float, end: float, attributes: Mapping[str, str], links: list[Link] | None = None
    ) -> None:
        """Add a child span that has ended; `start` and `end` are times of time.monotonic()."""
        begun = self._clock.ns(start)
        child = self._tracer.start_span(name, self._parent, start_time=begun, attributes=attributes, links=links)
        child.end(self._clock.ns(end))

    def ran_until(self, end: float) -> None:
        """Note when the last graph run of the request ended."""
        with self._lock:
            self._ran_until = max(self._ran_until, end)

    def finish(self, call: Call, code: str) -> None:
        """End the request's span; the time since the last run was spent on serialising the answer."""
        end = call.arrival + call.seconds
        if self._ran_until:
            self.add("serialise", self._ran_until, end, {})
        self._span.set_attributes({"rpc.grpc.status_code": code, "hourglass.request_id": call.request_id})
        if call.served is not None:
            self._span.set_attributes({"hourglass.model": call.served.name, "hourglass.version": call.served.version})
        if code in _SERVER_FAULTS:
            self._span.set_status(Status(StatusCode.ERROR, call.problem))
        self._span.end(self._clock.ns(end))
