"""Traces, received by a real OTLP endpoint over the wire."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.server.conftest import GOLDEN, Served, images, pixels, serving, write_slow_denoiser

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
REQUEST = pb.EncodeRequest(model_name="vae", images=images(pixels(2)))


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()

    def Export(self, request, _):  # noqa: N802, ANN001, ANN201 (the RPC's name)
        for resource in request.resource_spans:
            self.services |= {
                entry.value.string_value for entry in resource.resource.attributes if entry.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(0).wait()


def attributes(span: Span) -> dict[str, str]:
    return {entry.key: entry.value.string_value for entry in span.attributes}


def encode(served: Served, sampled: str = "01", **trace: str) -> None:
    parent = trace.get("parent", f"00-{TRACE}-{PARENT}-{sampled}")
    served.stub.Encode(REQUEST, timeout=10, metadata=(("traceparent", parent), ("x-request-id", "caller-7")))


def test_a_request_is_traced_under_its_callers_span(collector: tuple[Collector, str], transport: str) -> None:
    kept, endpoint = collector
    with serving(GOLDEN, transport=transport, otlp_endpoint=endpoint, poll_seconds=0) as served:
        encode(served)
    (request,) = kept.named("Encode")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert attributes(request)["hourglass.request_id"] == "caller-7"
    assert attributes(request)["rpc.grpc.status_code"] == "OK"
    (queue,), (run,), (serialise,) = (kept.named(name) for name in ("queue", "run", "serialise"))
    times = [request.start_time_unix_nano]
    for child in (queue, run, serialise):
        assert (child.trace_id, child.parent_span_id) == (request.trace_id, request.span_id)
        times += [child.start_time_unix_nano, child.end_time_unix_nano]
    times.append(request.end_time_unix_nano)
    assert times == sorted(times)
    (batch,) = kept.named("batch")
    assert [link.span_id for link in run.links] == [batch.span_id]
    assert [link.span_id for link in batch.links] == [request.span_id]
    assert kept.services == {"hourglass"}


@pytest.mark.parametrize(
    ("variable", "value"), [("OTEL_SERVICE_NAME", "ours"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=ours")]
)
def test_the_environment_names_the_service(
    collector: tuple[Collector, str], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    kept, endpoint = collector
    monkeypatch.setenv(variable, value)
    with serving(GOLDEN, otlp_endpoint=endpoint, poll_seconds=0) as served:
        encode(served)
    assert kept.services == {"ours"}


def test_a_batch_is_linked_to_all_its_requests(collector: tuple[Collector, str], repository: Path) -> None:
    kept, endpoint = collector
    write_slow_denoiser(repository, layers=60)
    request = pb.DenoiseRequest(images=images(pixels(1, (32, 32, 1))), image_format=pb.IMAGE_FORMAT_NONE)
    with serving(repository, otlp_endpoint=endpoint, concurrent_runs=1, max_batch_rows=8, poll_seconds=0) as served:
        for answer in [served.stub.Denoise.future(request, timeout=30) for _ in range(40)]:
            answer.result()
    requests, batches = kept.named("Denoise"), kept.named("batch")
    assert len(requests) == 40
    assert 1 < len(batches) < 40
    linked = [link.span_id for batch in batches for link in batch.links]
    assert sorted(linked) == sorted(request.span_id for request in requests)


def test_callers_decide_what_is_sampled(collector: tuple[Collector, str]) -> None:
    kept, endpoint = collector
    with serving(GOLDEN, otlp_endpoint=endpoint, trace_sample_ratio=0, poll_seconds=0) as served:
        encode(served, "00")
        encode(served, parent="nonsense")
        assert not kept.spans
        encode(served, "01")
    assert len(kept.named("Encode")) == 1


def test_a_failure_of_ours_is_an_error_and_one_of_the_callers_is_not(collector: tuple[Collector, str]) -> None:
    kept, endpoint = collector
    with serving(GOLDEN, otlp_endpoint=endpoint, poll_seconds=0) as served:
        for path in ("Nothing", "GetModel"):
            call = served.channel.unary_unary(f"/autoencoder.v1.AutoencoderService/{path}")
            with pytest.raises(grpc.RpcError):
                call(pb.GetModelRequest(model_name="nobody").SerializeToString(), timeout=10)
    by_code = {attributes(span)["rpc.grpc.status_code"]: span.status.code for span in kept.spans}
    assert by_code == {"UNIMPLEMENTED": 2, "NOT_FOUND": 0}


def test_a_dead_collector_hurts_nobody() -> None:
    with serving(GOLDEN, otlp_endpoint="http://127.0.0.1:1", poll_seconds=0) as served:
        encode(served)


def test_nothing_of_it_is_loaded_unless_asked_for() -> None:
    program = (
        "import sys; from pathlib import Path; from server.app import App; from server.config import Config\n"
        f"app = App(Config(repository=Path({str(GOLDEN)!r}), port=0, metrics_port=0)); app.start(); app.stop()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"
