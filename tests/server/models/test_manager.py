"""Versions that appear, disappear, are invalid or break while the server runs."""

import json
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from onnx import helper, numpy_helper

from tests.server.conftest import (
    GOLDEN,
    Served,
    array,
    copy_version,
    graph_run,
    images,
    metric,
    pixels,
    serving,
    write_graph,
)

BATCH = pixels(3)
FAST_POLL = {"poll_seconds": 0.05}


def eventually(reached: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.01)


def version(served: Served, label: str = "") -> str:
    request = pb.EncodeRequest(model_name="fc-ae", model_version=label, images=images(BATCH))
    return served.stub.Encode(request, timeout=10).info.model_version


def readyz(served: Served) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{served.metrics_address}/readyz", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def loads(served: Served, result: str) -> float:
    return metric(served, "autoencoder_model_loads_total", model="fc-ae", result=result)


def corrupt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_the_newest_version_serves_and_the_old_one_is_unloaded(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    with serving(repository, **FAST_POLL) as served:
        assert version(served) == "1"
        copy_version(repository, "fc-ae", 10)
        eventually(lambda: version(served) == "10")
        models = served.stub.ListModels(pb.ListModelsRequest()).models
        assert [model.version for model in models] == ["10"]
        assert metric(served, "autoencoder_model_ready", version="1") == 0
        assert metric(served, "autoencoder_model_info", version="10", provider="CPUExecutionProvider") == 1
        assert metric(served, "autoencoder_rows_total", version="1") > 0


def test_a_corrupt_version_is_refused_and_retried_when_it_changes(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    bad = copy_version(repository, "fc-ae", 2)
    corrupt(bad / "encode.onnx")
    with serving(repository, **FAST_POLL) as served:
        assert version(served) == "1"
        status, why = readyz(served)
        assert status == 200
        assert "fc-ae version 2: " in why
        assert "SHA-256" in why
        assert str(repository) not in why
        with pytest.raises(grpc.RpcError) as failed:
            version(served, "2")
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        time.sleep(0.3)
        assert loads(served, "invalid") == 1
        shutil.copy(GOLDEN / "fc-ae" / "1" / "encode.onnx", bad / "encode.onnx")
        eventually(lambda: version(served) == "2")
        assert readyz(served) == (200, "1 versions serve on CPUExecutionProvider\n")


def test_strict_readiness_requires_every_model(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    corrupt(copy_version(repository, "vae", 1) / "decode.onnx")
    corrupt(copy_version(repository, "fc-ae", 2) / "decode.onnx")
    with serving(repository, strict_readiness=True, **FAST_POLL) as served:
        assert readyz(served)[0] == 503
        assert version(served) == "1"
        # The newest version is not missed while another version of its model serves.
        copy_version(repository, "vae", 2)
        eventually(lambda: readyz(served)[0] == 200)


def test_only_bad_versions_are_unavailable(repository: Path, transport: str) -> None:
    corrupt(copy_version(repository, "fc-ae", 1) / "golden.npz")
    with serving(repository, transport=transport) as served:
        assert readyz(served)[0] == 503
        with pytest.raises(grpc.RpcError) as failed:
            version(served)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "golden.npz" in failed.value.details()


def test_a_graph_that_answers_otherwise_fails_its_self_test(repository: Path) -> None:
    # Another graph under a hash that fits: only the golden vectors can tell.
    for name, factor in (("plain", 1.0), ("other", 0.5)):
        nodes = [helper.make_node("Mul", ["images", "factor"], ["denoised"])]
        write_graph(repository, name, 1, nodes, [numpy_helper.from_array(np.float32(factor), "factor")])
    plain, other = (repository / name / "1" for name in ("plain", "other"))
    shutil.copy(other / "denoise.onnx", plain / "denoise.onnx")
    described, source = (json.loads((folder / "model.json").read_text()) for folder in (plain, other))
    described["files"][0] = source["files"][0]
    (plain / "model.json").write_text(json.dumps(described))
    with serving(repository) as served:
        assert metric(served, "autoencoder_model_loads_total", model="plain", result="self_test_failed") == 1
        assert metric(served, "autoencoder_model_ready", model="other") == 1
        assert "plain version 1: denoise.onnx: golden case 0" in readyz(served)[1]


@pytest.mark.parametrize(("policy", "expected"), [("all", ["1", "2", "3"]), ("1,3,7", ["1", "3"]), ("latest", ["3"])])
def test_policies(repository: Path, policy: str, expected: list[str]) -> None:
    for number in (1, 2, 3):
        copy_version(repository, "fc-ae", number)
    with serving(repository, versions=policy) as served:
        models = served.stub.ListModels(pb.ListModelsRequest()).models
        assert [model.version for model in models] == expected
        assert version(served) == expected[-1]
        assert version(served, expected[0]) == expected[0]


def test_half_copied_versions_are_ignored(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    half = copy_version(repository, "fc-ae", 2)
    description = (half / "model.json").read_bytes()
    (half / "model.json").unlink()
    (half / "encode.onnx").write_bytes(b"half")
    with serving(repository, **FAST_POLL) as served:
        assert version(served) == "1"
        assert readyz(served) == (200, "1 versions serve on CPUExecutionProvider\n")
        shutil.copy(GOLDEN / "fc-ae" / "1" / "encode.onnx", half / "encode.onnx")
        (half / "model.json").write_bytes(description)
        eventually(lambda: version(served) == "2")
        assert loads(served, "invalid") == 0


def test_a_deleted_version_is_unloaded_and_a_lost_disk_changes_nothing(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    copy_version(repository, "fc-ae", 2)
    with serving(repository, **FAST_POLL) as served:
        shutil.rmtree(repository / "fc-ae" / "2")
        eventually(lambda: version(served) == "1")
        repository.rename(repository.with_name("away"))
        time.sleep(0.2)
        assert version(served) == "1"
        repository.with_name("away").rename(repository)
        shutil.rmtree(repository / "fc-ae")
        eventually(lambda: readyz(served)[0] == 503)


def test_explicit_load_and_unload(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    with serving(repository, poll_seconds=0) as served:
        served.app.manager.unload("fc-ae")
        with pytest.raises(grpc.RpcError) as failed:
            version(served)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert served.app.manager.load("fc-ae") is None
        assert version(served) == "1"
        copy_version(repository, "fc-ae", 2)
        assert served.app.manager.load("fc-ae") is None
        assert version(served) == "2"
        assert "no version of 'nobody'" in (served.app.manager.load("nobody") or "")


def test_hot_reload_under_load_fails_nothing(repository: Path, transport: str) -> None:
    copy_version(repository, "fc-ae", 1)
    expected = graph_run("encode", "fc-ae", BATCH)[0]
    with serving(repository, transport=transport, poll_seconds=0.02) as served:
        stop, problems, seen = threading.Event(), [], set()

        def call() -> None:
            request = pb.EncodeRequest(model_name="fc-ae", images=images(BATCH))
            while not stop.is_set():
                try:
                    answer = served.stub.Encode(request, timeout=20)
                except grpc.RpcError as error:
                    problems.append(error)
                    return
                seen.add(answer.info.model_version)
                if not np.array_equal(array(answer.latents), expected):
                    problems.append(answer)

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for number in range(2, 7):
            copy_version(repository, "fc-ae", number)
            eventually(lambda number=number: version(served) == str(number))
            if number > 3:
                shutil.rmtree(repository / "fc-ae" / str(number - 2))
        stop.set()
        for thread in threads:
            thread.join()
        assert not problems
        assert seen == {"1", "2", "3", "4", "5", "6"}
        requests = "autoencoder_requests_total"
        assert metric(served, requests) == metric(served, requests, code="OK")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "huge"])
@pytest.mark.parametrize("place", ["vae/1/model.json", "vae/1/encode.onnx", "fc-ae/labels.json"])
def test_a_path_that_is_not_a_regular_file_delays_no_other_model(repository: Path, place: str, kind: str) -> None:
    """Reading a pipe never ends, nor does reading a device."""
    for name in ("fc-ae", "vae"):
        copy_version(repository, name, 1)
    path = repository / place
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as sparse:
            sparse.truncate(2**40)
    with serving(repository, **FAST_POLL) as served:
        assert version(served) == "1"
        copy_version(repository, "fc-ae", 2)
        eventually(lambda: version(served) == "2")
        assert [model.name for model in served.app.table.all()] == ["fc-ae", *["vae"] * place.startswith("fc-ae")]
