"""Models that fail to load, and what their failure may and may not affect."""

import shutil
import urllib.request
import weakref
from pathlib import Path

import grpc
import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from inference import open_inference_pb2, open_inference_pb2_grpc
from onnx import helper, numpy_helper

from tests.server.conftest import Served, copy_version, metric, serving, write_graph
from tests.server.models.test_manager import FAST_POLL, eventually, readyz, version

LOADS = "autoencoder_model_loads_total"


def write_graph_that_fails_on_zeros(repository: Path, name: str) -> None:
    """Passes its self-test, whose pixels are not all 0; fails at its warm-up with an error of onnxruntime's own."""
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["highest"], keepdims=0),
        helper.make_node("Ceil", ["highest"], ["whole"]),
        helper.make_node("Sub", ["one", "whole"], ["rest"]),
        helper.make_node("Cast", ["rest"], ["index"], to=7),
        helper.make_node("Gather", ["zero", "index"], ["nothing"]),
        helper.make_node("Add", ["images", "nothing"], ["denoised"]),
    ]
    constants = [
        numpy_helper.from_array(np.float32(1), "one"),
        numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
    ]
    write_graph(repository, name, 1, nodes, constants)


def code(served: Served, name: str) -> grpc.StatusCode | None:
    failure = served.stub.GetModel.future(pb.GetModelRequest(model_name=name), timeout=10).exception()
    return None if failure is None else failure.code()


def test_a_version_too_large_for_the_memory_is_refused_unread(repository: Path) -> None:
    """A sparse file costs its writer nothing, and reading it would take the memory of all models that serve."""
    size = 64 * 1024**3

    def promise(description: dict) -> None:
        description["files"].append({"path": "holes", "size_bytes": str(size), "sha256": "0" * 64})

    copy_version(repository, "fc-ae", 1)
    with (copy_version(repository, "fc-ae", 2, promise) / "holes").open("wb") as holes:
        holes.truncate(size)
    with serving(repository, **FAST_POLL) as served:
        assert version(served) == "1"
        assert f"expected files of at most {2 * 1024**3} bytes together" in readyz(served)[1]
        assert metric(served, LOADS, model="fc-ae", result="invalid") == 1
    with serving(repository, versions="1", max_model_bytes=1000) as served:
        assert code(served, "fc-ae") is grpc.StatusCode.UNAVAILABLE


def test_a_graph_that_needs_more_memory_than_allowed_is_refused_before_it_runs(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    with serving(repository, versions="1", max_run_bytes=1000) as served:
        assert code(served, "fc-ae") is grpc.StatusCode.UNAVAILABLE
        assert "raise --max-run-bytes" in readyz(served)[1]


def test_a_broken_bundle_does_not_stop_the_next_one(repository: Path) -> None:
    write_graph_that_fails_on_zeros(repository, "a-broken")
    copy_version(repository, "fc-ae", 1)
    (copy_version(repository, "denoiser", 1) / "notes.txt").symlink_to("nowhere")
    with serving(repository, **FAST_POLL) as served:
        assert version(served) == "1"
        assert code(served, "a-broken") is grpc.StatusCode.UNAVAILABLE
        assert "onnxruntime" not in readyz(served)[1]
        copy_version(repository, "fc-ae", 2)
        eventually(lambda: version(served) == "2")
        assert metric(served, LOADS, model="a-broken") == 1
        assert metric(served, LOADS, model="a-broken", result="warm_up_failed") == 1


def test_a_disk_error_is_retried_and_does_not_reject_the_bundle(repository: Path) -> None:
    file = copy_version(repository, "fc-ae", 1) / "decode.onnx"
    whole = file.read_bytes()
    file.unlink()
    file.symlink_to(file.name)
    with serving(repository, poll_seconds=0) as served:
        assert readyz(served)[0] == 503
        eventually(lambda: metric(served, LOADS, model="fc-ae", result="invalid") == 2)
        file.unlink()
        file.write_bytes(whole)
        eventually(lambda: readyz(served)[0] == 200)


def test_a_broken_model_deleted_from_disk_is_not_found(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    broken = copy_version(repository, "vae", 1)
    (broken / "golden.npz").write_bytes(b"")
    with serving(repository, **FAST_POLL) as served:
        assert code(served, "vae") is grpc.StatusCode.UNAVAILABLE
        shutil.rmtree(repository / "vae")
        eventually(lambda: code(served, "vae") is grpc.StatusCode.NOT_FOUND)
        assert "vae" not in readyz(served)[1]


def test_a_version_of_too_many_digits_is_not_found(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    (copy_version(repository, "vae", 1) / "golden.npz").write_bytes(b"")
    with serving(repository, poll_seconds=0) as served:
        for name in ("fc-ae", "vae"):
            request = pb.GetModelRequest(model_name=name, model_version="1" * 5000)
            failure = served.stub.GetModel.future(request, timeout=10).exception()
            assert failure.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE}


def test_an_unloaded_version_is_freed(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    with serving(repository, **FAST_POLL) as served:
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(served.channel)
        stub.ModelMetadata(open_inference_pb2.ModelMetadataRequest(name="fc-ae.encode"), timeout=10)
        assert version(served) == "1"
        first = weakref.ref(served.app.table.get("fc-ae", "1"))
        copy_version(repository, "fc-ae", 2)
        eventually(lambda: version(served) == "2")
        # Frames and calls that end a moment later.
        eventually(lambda: first() is None)


def test_metrics_have_no_created_series(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    with serving(repository, poll_seconds=0) as served:
        page = urllib.request.urlopen(f"http://{served.metrics_address}/metrics", timeout=10).read().decode()
        assert "autoencoder_model_loads_total" in page
        assert "_created" not in page
