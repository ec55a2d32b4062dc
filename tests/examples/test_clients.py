"""The client examples run as documented."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb

from examples import lecture_pictures
from tests.clients.programs import BUILD, ROOT
from tests.server.conftest import GOLDEN, Served, graph_run, serving
from tests.server.free_models import write_detector


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(GOLDEN, rest_port=0, poll_seconds=0) as served:
        yield served


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=ROOT).stdout


def test_python(server: Served) -> None:
    output = run(sys.executable, "examples/python/encode.py", server.address, "vae")
    assert "vae version 1: latents (4, 3)" in output
    assert "the same again: True" in output
    assert "shape: expected (N, 8, 8), (N, 8, 8, 1) or one image (8, 8, 1), got (4, 7, 8, 1)" in output


def test_detect(tmp_path: Path) -> None:
    from PIL import Image  # noqa: PLC0415

    (tmp_path / "models").mkdir()
    write_detector(tmp_path / "models")
    for name, grey in (("good", 20), ("bad", 255)):
        Image.new("L", (40, 30), grey).save(tmp_path / f"{name}.png")
    files = [str(tmp_path / f"{name}.png") for name in ("good", "bad")]
    with serving(tmp_path / "models", poll_seconds=0) as served:
        output = run(sys.executable, "examples/python/detect.py", served.address, "detector", *files)
    good, bad, region = output.splitlines()
    assert good.startswith(f"{files[0]}: normal, score ")
    assert bad == f"{files[1]}: anomalous, score 1, threshold 0.5"
    assert region == "  30 x 40 at row 0, column 0: up to 1"


def test_open_inference(server: Served) -> None:
    python = BUILD / "triton/bin/python"
    if not python.exists():
        pytest.skip("tritonclient is absent: run `make clients`")
    output = run(str(python), "examples/python/open_inference.py", server.address, "vae.encode")
    assert output.splitlines() == ["vae.encode latents: (4, 3)", "vae.encode log_variances: (4, 3)"]


def test_curl(server: Served) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is absent")
    output = run("bash", "examples/rest/infer.sh", f"127.0.0.1:{server.app.rest_port}", "vae.encode")
    answers = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert [answer.get("ready", answer.get("name")) for answer in answers[:2]] == [True, "vae.encode"]
    black = graph_run("encode", "vae", np.zeros((1, 8, 8, 1), np.uint8))[0].ravel()
    for answer in answers[2:]:
        np.testing.assert_array_equal(np.float32(answer["outputs"][0]["data"]), black)
    assert len(answers) == 4


def test_lecture_pictures_need_only_a_server(server: Served, tmp_path: Path) -> None:
    from PIL import Image  # noqa: PLC0415

    assert lecture_pictures.main(["--address", server.address, "--out", str(tmp_path / "pictures")]) == 0
    names = {"scatter.png", "plane.png", "denoising.png", "interpolation.png", "attributes.png"}
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == names
    for name in names:
        with Image.open(tmp_path / "pictures" / name) as picture:
            assert len(set(picture.convert("L").tobytes())) > 20


def test_lecture_pictures_of_a_model_without_attributes(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "fc-ae", tmp_path / "models/fc-ae")
    with serving(tmp_path / "models", poll_seconds=0) as served:
        assert "Edit" not in served.stub.GetModel(pb.GetModelRequest()).model.methods
        assert lecture_pictures.main(["--address", served.address, "--out", str(tmp_path / "pictures")]) == 0
    names = {"scatter.png", "plane.png", "interpolation.png", "attributes.png"}
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == names


def test_lecture_pictures_of_own_images(server: Served, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", np.arange(40) % 10)
    given = ["--images", str(tmp_path / "images.npy"), "--labels", str(tmp_path / "labels.npy")]
    assert lecture_pictures.main(["--address", server.address, "--out", str(tmp_path / "out"), *given]) == 0
    assert (tmp_path / "out/scatter.png").exists()


def test_lecture_pictures_report_errors(server: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "large.npy", np.zeros((4, 99, 99), np.uint8))
    wrong = ["--images", str(tmp_path / "large.npy"), "--out", str(tmp_path / "out")]
    assert lecture_pictures.main(["--address", server.address, *wrong]) == 2
    assert "no model takes images of shape (99, 99, 1)" in capsys.readouterr().err
    assert lecture_pictures.main(["--address", "127.0.0.1:1", "--out", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()
