"""ORCA load reports: on a stream, in trailers, and not at all."""

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from xds.service.orca.v3.orca_pb2 import OrcaLoadReportRequest
from xds.service.orca.v3.orca_pb2_grpc import OpenRcaServiceStub

from server.models.table import ServedModel
from server.services.load_reports import LoadMeter, waiting_runs
from tests.server.conftest import GOLDEN, images, pixels, serving
from tests.server.raw_http2 import RawConnection

# gRPC's clients keep it to themselves, so that frames are read: as it is, and in Huffman's code.
KEY = (b"endpoint-load-metrics-bin", bytes.fromhex("922d5256735495a838e45a92a6c3110b466abf"))
REQUEST = pb.EncodeRequest(model_name="vae", images=images(pixels(2)))
EVERY_SECOND = OrcaLoadReportRequest(report_interval=Duration(seconds=1))


def test_a_stream_reports_the_load_and_is_told_the_end(transport: str) -> None:
    with serving(GOLDEN, transport=transport, poll_seconds=0) as served:
        reports = OpenRcaServiceStub(served.channel).StreamCoreMetrics(EVERY_SECOND, timeout=60)
        next(reports)
        for _ in range(100):
            served.stub.Encode(REQUEST, timeout=30)
        with pytest.raises(grpc.RpcError):
            served.stub.Encode(pb.EncodeRequest(model_name="none"), timeout=30)
        report = next(report for report in reports if report.rps_fractional)
        assert report.cpu_utilization > 0
        assert 0 < report.application_utilization < 10
        assert report.eps == 0, "the caller's own error"
        served.app.stop()
        served.app.stop = lambda: True  # it has stopped already
        with pytest.raises(grpc.RpcError) as ended:
            list(reports)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_stream_that_fails_does_not_say_that_the_server_stops(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> list[ServedModel]:
        raise RuntimeError("broken")

    with serving(GOLDEN, transport=transport, poll_seconds=0) as served:
        reports = OpenRcaServiceStub(served.channel).StreamCoreMetrics(EVERY_SECOND, timeout=60)
        next(reports)
        with monkeypatch.context() as patched:
            patched.setattr(served.app.table, "all", fail)
            with pytest.raises(grpc.RpcError) as ended:
                list(reports)
    assert ended.value.code() is grpc.StatusCode.UNKNOWN
    assert "stopping" not in ended.value.details()


def test_answers_carry_reports_if_asked_for(transport: str) -> None:
    for wanted in ("calls", "stream"):
        with (
            serving(GOLDEN, transport=transport, poll_seconds=0, load_reports=wanted) as served,
            RawConnection(served.address) as connection,
        ):
            connection.call(1, "/autoencoder.v1.AutoencoderService/Encode", REQUEST.SerializeToString())
            trailers = connection.end_of(1)
        assert trailers
        assert any(name in trailers for name in KEY) == (wanted == "calls")


def test_streams_are_limited_and_can_be_turned_off(transport: str) -> None:
    with serving(GOLDEN, transport=transport, poll_seconds=0, max_health_watches=1) as served:
        stub = OpenRcaServiceStub(served.channel)
        kept = stub.StreamCoreMetrics(OrcaLoadReportRequest(), timeout=60)
        next(kept)
        with pytest.raises(grpc.RpcError) as refused:
            next(stub.StreamCoreMetrics(OrcaLoadReportRequest(), timeout=60))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with serving(GOLDEN, transport=transport, poll_seconds=0, load_reports="off") as served:
        with pytest.raises(grpc.RpcError) as absent:
            next(OpenRcaServiceStub(served.channel).StreamCoreMetrics(OrcaLoadReportRequest(), timeout=60))
        assert absent.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_refusals_and_waiting_rows_count_as_load() -> None:
    with serving(GOLDEN, transport="grpcio", poll_seconds=0) as served:
        meter = LoadMeter(served.app.metrics, served.app.table)
        served.app.metrics.in_flight["Encode"] += 5
        served.app.metrics.finished("Encode", "vae", "1", "RESOURCE_EXHAUSTED", [0.001] * 5)
        batcher = served.app.table.get("vae", "").batchers["encode"]
        assert waiting_runs(served.app.table.all()) == 0
        batcher.queue.rows = 3 * batcher.policy.max_rows * batcher.policy.concurrent_runs
        try:
            assert waiting_runs(served.app.table.all()) == 3
            meter._since -= 10
            report = meter.report()
        finally:
            batcher.queue.rows = 0
    assert report.eps == pytest.approx(0.5, rel=0.1)
    assert report.application_utilization == pytest.approx(3, abs=0.1)
