"""The tracer that sends spans over OTLP/gRPC."""

from collections.abc import Iterable, Mapping
from threading import Lock

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server.call import Call, Metadata
from server.tracing import Graph, Trace, epoch_ns

_SERVER_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})


class OtlpTracer:
    """Spans of one server."""

    def __init__(self, endpoint: str, sample_ratio: float) -> None:
        resource = Resource.create({SERVICE_NAME: "hourglass"})
        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(sample_ratio), resource=resource, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("hourglass.server")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, call: Call, metadata: Metadata) -> Trace | None:
        """Start a request's span under the caller's, if it sent one."""
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        span = self._tracer.start_span(
            call.method,
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            start_time=epoch_ns(call.arrival),
            attributes={"rpc.system": "grpc", "rpc.method": call.method},
        )
        return OtlpTrace(self._tracer, span) if span.is_recording() else None

    def ran(self, graph: Graph, calls: Iterable[Call], started: float, seconds: float) -> None:
        """Record the batch, and in each request how long it waited and ran."""
        traced = {call: call.trace for call in dict.fromkeys(calls) if isinstance(call.trace, OtlpTrace) and call.entry}
        if not traced:
            return
        begin = epoch_ns(started)
        end = begin + int(seconds * 1e9)
        links = [Link(request.context) for request in traced.values()]
        batch = self._tracer.start_span("batch", Context(), links=links, start_time=begin, attributes=graph.attributes)
        batch.end(end)
        for call, request in traced.items():
            queued = epoch_ns(call.entry.queued) if call.entry is not None else begin
            request.add("queue", queued, begin, graph.attributes)
            request.add("run", begin, end, graph.attributes, [Link(batch.get_span_context())])
            request.ran_until(end)

    def close(self) -> None:
        """Send what is left, and stop."""
        self._provider.shutdown()


class OtlpTrace:
    """The spans of one request."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self.context: SpanContext = span.get_span_context()
        self.trace_id = trace.format_trace_id(self.context.trace_id)
        self._tracer = tracer
        self._span = span
        self._parent = trace.set_span_in_context(span, Context())
        self._ran_until_ns = 0
        self._lock = Lock()

    def add(
        self, name: str, start_ns: int, end_ns: int, attributes: Mapping[str, str], links: list[Link] | None = None
    ) -> None:
        """A child that has ended."""
        child = self._tracer.start_span(name, self._parent, start_time=start_ns, attributes=attributes, links=links)
        child.end(max(start_ns, end_ns))

    def ran_until(self, end_ns: int) -> None:
        """Note when the last graph run of the request ended."""
        with self._lock:
            self._ran_until_ns = max(self._ran_until_ns, end_ns)

    def finish(self, call: Call, code: str) -> None:
        """End the request's span; what came after the last run was making the answer."""
        now = epoch_ns(call.arrival + call.seconds)
        if self._ran_until_ns:
            self.add("serialise", self._ran_until_ns, now, {})
        self._span.set_attributes({"rpc.grpc.status_code": code, "hourglass.request_id": call.request_id})
        if call.served is not None:
            self._span.set_attributes({"hourglass.model": call.served.name, "hourglass.version": call.served.version})
        if code in _SERVER_FAULTS:
            self._span.set_status(Status(StatusCode.ERROR, call.problem))
        self._span.end(now)
