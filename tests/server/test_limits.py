"""Limits, full queues, deadlines, cancelled calls and internal errors on both transports: statuses and rows run."""

import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from google.rpc.error_details_pb2 import RequestInfo, RetryInfo

from tests.server.conftest import GOLDEN, Served, images, metric, pixels, serving, write_slow_denoiser
from tests.server.invalid import GOOD, encode, files, png
from tests.server.test_statuses import detail


def test_the_only_model_needs_no_name(repository_of_one: Path, transport: str) -> None:
    with serving(repository_of_one, transport=transport) as served:
        assert served.stub.Encode(pb.EncodeRequest(images=GOOD), timeout=10).info.model_name == "fc-ae"


@pytest.fixture
def repository_of_one(tmp_path: Path) -> Path:
    (tmp_path / "fc-ae").symlink_to(GOLDEN / "fc-ae")
    return tmp_path


def test_limits_are_settings(repository_of_one: Path, transport: str) -> None:
    settings = {"max_request_rows": 3, "max_image_pixels": 50, "max_message_bytes": 2000}
    with serving(repository_of_one, transport=transport, **settings) as served:
        assert served.stub.Encode(encode(images(pixels(3))), timeout=10).latents.shape[0] == 3
        for message, words in ((images(pixels(4)), "1 to 3"), (files(png(8, 8)), "at most 50 pixels")):
            with pytest.raises(grpc.RpcError) as failed:
                served.stub.Encode(encode(message), timeout=10)
            assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert words in failed.value.details()
        with pytest.raises(grpc.RpcError) as failed:
            served.stub.Encode(encode(images(pixels(100))), timeout=10)
        assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in failed.value.details()
        assert "grpc-status-details-bin" not in dict(failed.value.trailing_metadata())
        # It is not overload, which more servers would cure; grpcio refuses it before it is a call.
        assert metric(served, "autoencoder_requests_total", code="RESOURCE_EXHAUSTED") == 0


def test_a_full_queue_refuses_with_a_hint(repository: Path, transport: str) -> None:
    write_slow_denoiser(repository)
    batch = images(np.zeros((16, 32, 32, 1), np.uint8))
    with serving(repository, transport=transport, max_queue_rows=32, max_request_rows=32, max_batch_rows=1) as served:
        calls = [served.stub.Denoise.future(pb.DenoiseRequest(images=batch), timeout=60) for _ in range(12)]
        errors = [call.exception() for call in calls]
        refused = [error for error in errors if error is not None]
        assert refused
        assert len(refused) < len(calls)
        for error in refused:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert detail(error, RetryInfo).retry_delay.ToNanoseconds() > 0
        assert metric(served, "autoencoder_dropped_rows_total", reason="overload") == 16 * len(refused)
        assert metric(served, "autoencoder_queue_rows") == 0


def test_what_cannot_finish_in_time_is_refused_at_once(repository: Path, transport: str) -> None:
    write_slow_denoiser(repository)
    batch = images(np.zeros((64, 32, 32, 1), np.uint8))
    # The deadline alone is to refuse here, not that one caller asks for all of the time.
    settings = {"max_batch_rows": 1, "concurrent_runs": 1, "fair_queue": False}
    with serving(repository, transport=transport, **settings) as served:
        # More than the graph can do in this time: those who come last are told so, not those in time.
        calls = [served.stub.Denoise.future(pb.DenoiseRequest(images=batch), timeout=2) for _ in range(40)]
        refused = [error for call in calls if (error := call.exception()) and "would take about" in error.details()]
        assert refused
        for error in refused:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert detail(error, RetryInfo).HasField("retry_delay")


def test_an_accident_is_internal_and_named_by_an_id(repository_of_one: Path, transport: str) -> None:
    with serving(repository_of_one, transport=transport) as served:
        model = served.app.table.get("fc-ae", "")
        # A queue that is gone stands for whatever nobody has thought of.
        model.batchers.pop("encode")
        with pytest.raises(grpc.RpcError) as failed:
            served.stub.Encode(encode(GOOD), timeout=10)
        assert failed.value.code() is grpc.StatusCode.INTERNAL
        assert detail(failed.value, RequestInfo).request_id in failed.value.details()
        assert "KeyError" not in failed.value.details()
        assert metric(served, "autoencoder_requests_total", code="INTERNAL", method="Encode") == 1


def test_a_passed_deadline_drops_the_rows(repository: Path, transport: str) -> None:
    write_slow_denoiser(repository)
    batch = images(np.zeros((64, 32, 32, 1), np.uint8))
    with serving(repository, transport=transport, max_batch_rows=1, concurrent_runs=1) as served:
        with pytest.raises(grpc.RpcError) as failed:
            served.stub.Denoise(pb.DenoiseRequest(images=batch), timeout=0.05)
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        ran = _settled_rows(served)
        assert ran < 64
        assert metric(served, "autoencoder_requests_total", code="DEADLINE_EXCEEDED") == 1
        assert metric(served, "autoencoder_dropped_rows_total") == 64 - ran


def test_a_cancelled_call_drops_the_rows(repository: Path, transport: str) -> None:
    write_slow_denoiser(repository)
    batch = images(np.zeros((64, 32, 32, 1), np.uint8))
    with serving(repository, transport=transport, max_batch_rows=1, concurrent_runs=1) as served:
        call = served.stub.Denoise.future(pb.DenoiseRequest(images=batch))
        while metric(served, "autoencoder_rows_total") == 0:
            time.sleep(0.001)
        call.cancel()
        ran = _settled_rows(served)
        assert ran < 64
        assert metric(served, "autoencoder_requests_total", code="CANCELLED") == 1
        # A run under way at the cancel is counted when it ends, however slow this machine is.
        dropped = {"name": "autoencoder_dropped_rows_total", "reason": "cancelled"}
        deadline = time.monotonic() + 20
        while metric(served, "autoencoder_rows_total") + metric(served, **dropped) != 64:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _settled_rows(served: Served) -> float:
    """Rows run, once nothing waits and nothing runs."""
    while metric(served, "autoencoder_queue_rows") or metric(served, "autoencoder_requests_in_flight"):
        time.sleep(0.001)
    before = -1.0
    while (rows := metric(served, "autoencoder_rows_total")) != before:
        before = rows
        time.sleep(0.1)
    return rows
