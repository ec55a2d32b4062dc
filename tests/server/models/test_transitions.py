"""A version whose files change while it serves: noticed, reported, and loaded as a whole when an operator says so."""

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from inference import open_inference_pb2
from inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from onnx import helper, numpy_helper

from server.models import transitions
from tests.server.conftest import GOLDEN, Served, array, copy_version, images, metric, serving, write_graph
from tests.server.models.test_manager import FAST_POLL, corrupt, eventually, readyz

CHANGED = "its files have changed since it was loaded; it goes on serving what it loaded"
WARNING = (
    "the files of scale version 1 have changed since it was loaded; it goes on serving what it loaded: "
    "publish a new version number, or load the model again"
)
IMAGE = np.full((1, 32, 32, 1), 0.8, np.float32)


def scale(repository: Path, factor: float) -> None:
    """Put a denoiser that multiplies in the place of version 1, which is away too shortly for a poll to miss it."""
    nodes = [helper.make_node("Mul", ["images", "factor"], ["denoised"])]
    made = repository.parent / f"made-{factor}"
    write_graph(made, "scale", 1, nodes, [numpy_helper.from_array(np.float32(factor), "factor")])
    version, aside = repository / "scale" / "1", made / "aside"
    version.parent.mkdir(exist_ok=True)
    if version.exists():
        version.rename(aside)
    (made / "scale" / "1").rename(version)
    shutil.rmtree(made)


def factor(served: Served) -> float:
    request = pb.DenoiseRequest(model_name="scale", images=images(IMAGE))
    got = array(served.stub.Denoise(request, timeout=20).images.tensor)
    values = np.unique(got)
    assert len(values) == 1
    return round(float(values[0]) / 204, 3)


def index(served: Served) -> dict[str, str]:
    """Reasons of the versions in the index that serve."""
    stub = GRPCInferenceServiceStub(served.channel)
    models = stub.RepositoryIndex(open_inference_pb2.RepositoryIndexRequest()).models
    return {f"{each.name}/{each.version}": each.reason for each in models if each.state == "READY"}


@pytest.fixture(params=["at once", "later"])
def compared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are compared while the manager waits, as small ones are, or while it goes on, as large ones are."""
    if request.param == "later":
        monkeypatch.setattr(transitions, "_COMPARE_PATIENCE_SECONDS", 0)


def test_files_changed_in_place_are_reported_once_and_not_served(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scale(repository, 0.5)
    with serving(repository, log_level="warning", **FAST_POLL) as served:
        assert factor(served) == 0.5
        scale(repository, 0.25)
        eventually(lambda: CHANGED in readyz(served)[1])
        assert readyz(served) == (200, f"1 versions serve on CPUExecutionProvider; scale version 1: {CHANGED}\n")
        assert index(served) == {"scale/1": CHANGED}
        assert factor(served) == 0.5
        # Looked at a few times more.
        assert served.app.manager.load("nobody") is not None
        assert [record.getMessage() for record in caplog.records] == [WARNING]
        assert metric(served, "autoencoder_model_loads_total") == 1


@pytest.mark.usefixtures("compared")
@pytest.mark.parametrize("how", ["load", "hup"])
def test_an_operator_has_changed_files_loaded_without_a_gap(repository: Path, how: str) -> None:
    scale(repository, 0.5)
    over, seen, problems = threading.Event(), [], []
    with serving(repository, poll_seconds=0) as served:

        def call() -> None:
            while not over.is_set():
                try:
                    seen.append(factor(served))
                except Exception as error:  # noqa: BLE001 (looked at below)
                    problems.append(error)

        callers = [threading.Thread(target=call) for _ in range(3)]
        for caller in callers:
            caller.start()
        try:
            eventually(lambda: len(seen) > 3)
            scale(repository, 0.25)
            if how == "hup":
                served.app.reload()
            else:
                assert served.app.manager.load("scale") is None
            eventually(lambda: seen[-1] == 0.25)
        finally:
            over.set()
            for caller in callers:
                caller.join()
        assert set(seen) == {0.5, 0.25}
        assert not problems
        assert readyz(served) == (200, "1 versions serve on CPUExecutionProvider\n")
        labels = {"model": "scale", "version": "1"}
        assert metric(served, "autoencoder_model_ready", **labels) == 1
        assert metric(served, "autoencoder_model_loads_total", result="ok") == 2
        page = [each.name for each in served.app.metrics.registry.collect() if each.samples]
        assert "autoencoder_self_test_max_error" in page


def test_changed_files_that_are_refused_change_nothing(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    with serving(repository, **FAST_POLL) as served:
        before = served.app.table.get("fc-ae", "")
        corrupt(repository / "fc-ae" / "1" / "encode.onnx")
        eventually(lambda: CHANGED in readyz(served)[1])
        why = served.app.manager.load("fc-ae")
        assert why is not None
        assert why.startswith(f"{CHANGED}, because they are refused: fc-ae/1/encode.onnx: expected 2055 bytes")
        assert served.app.table.get("fc-ae", "") is before
        assert f"fc-ae version 1: {why}" in readyz(served)[1]
        assert metric(served, "autoencoder_model_ready", model="fc-ae") == 1
        assert metric(served, "autoencoder_self_test_max_error", model="fc-ae") >= 0
        # Put right, they are those that serve.
        shutil.copy(GOLDEN / "fc-ae" / "1" / "encode.onnx", repository / "fc-ae" / "1" / "encode.onnx")
        eventually(lambda: readyz(served) == (200, "1 versions serve on CPUExecutionProvider\n"))
        assert served.app.table.get("fc-ae", "") is before


@pytest.mark.usefixtures("compared")
def test_files_that_were_only_touched_have_not_changed(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = copy_version(repository, "fc-ae", 1)
    with serving(repository, poll_seconds=0, log_level="warning") as served:
        for path in list(folder.iterdir()):
            shutil.copy(path, folder / "copy")
            (folder / "copy").replace(path)
            os.utime(path, ns=(1, 1))
        assert served.app.manager.load("fc-ae") is None
        assert readyz(served) == (200, "1 versions serve on CPUExecutionProvider\n")
        assert metric(served, "autoencoder_model_loads_total") == 1
        assert not caplog.records
        # The description alone counts, too.
        described = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps({**described, "latent_size": described["latent_size"] + 1}))
        assert served.app.manager.load("fc-ae")
        assert CHANGED in readyz(served)[1]
        assert served.app.table.get("fc-ae", "").shapes.latent == (described["latent_size"],)


def test_large_files_that_were_touched_hold_up_no_other_model(repository: Path) -> None:
    folder = copy_version(repository, "fc-ae", 1)
    with serving(repository, poll_seconds=0) as served:
        # The thread that compares files has one version at a time: it is still at another one.
        with served.app.manager._transitions._comparing:
            os.utime(folder / "encode.onnx", ns=(1, 1))
            served.app.reload()
            copy_version(repository, "vae", 1)
            assert served.app.manager.load("vae") is None
            served.app.manager.unload("vae")
        assert served.app.manager.load("fc-ae") is None
        assert readyz(served) == (200, "1 versions serve on CPUExecutionProvider\n")
