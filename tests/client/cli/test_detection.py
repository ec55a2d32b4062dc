"""`hourglass detect` against a real server: a table, JSON, pictures, exit codes."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from autoencoder.v1 import regions
from autoencoder.v1.model_pb2 import Detection
from hourglass_client.cli.detection import ANOMALOUS
from hourglass_client.cli.main import main
from PIL import Image

from tests.server import free_models
from tests.server.conftest import Served, serving

RNG = np.random.default_rng(3)
SIZE = 80


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    detection = Detection()
    detection.CopyFrom(free_models.DETECTION)
    detection.calibrated_height = detection.calibrated_width = SIZE
    free_models.write_detector(folder, "free", detection=detection)
    free_models.write_detector(folder, "fixed", size=SIZE)
    for name in ("calibrated_on", "calibrated_height", "calibrated_width"):
        detection.ClearField(name)
    free_models.write_detector(folder, "unknown", detection=detection)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Served]:
    with serving(repository, poll_seconds=0) as served:
        yield served


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Pictures of parts: good ones, and scratched ones with two scratches each."""
    folder = tmp_path / "parts"
    for kind, count in (("good", 3), ("scratched", 2)):
        (folder / kind).mkdir(parents=True)
        for index in range(count):
            image = RNG.normal(40, 5, (SIZE, SIZE))
            if kind == "scratched":
                image[20:30, 15:18] = image[60:65, 30:60] = 255
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / kind / f"{index}.png")
    return folder


def detected(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = ANOMALOUS) -> dict:
    assert main(["detect", *map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("model", ["free", "fixed"])
def test_json_for_scripts(
    server: Served, parts: Path, repository: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    answer = detected(capsys, parts, "--model", model, "--address", server.address)

    assert [item["image"] for item in answer["items"]] == [
        *(f"good/{index}" for index in range(3)),
        *(f"scratched/{index}" for index in range(2)),
    ]
    assert [item["anomalous"] for item in answer["items"]] == [False] * 3 + [True] * 2
    graph = (repository / model / "1/detect.onnx").read_bytes()
    for item in answer["items"]:
        pixels = np.asarray(Image.open(parts / f"{item['image']}.png"))[None, ..., None] / np.float32(255)
        maps = free_models.run(graph, {"images": pixels})[-1]
        assert item["score"] == maps.max()
        expected = [(r.top, r.left, r.height, r.width, r.score) for r in regions.find(maps[..., 0], 0.625)]
        assert [tuple(region.values()) for region in item["regions"]] == expected
    assert answer["threshold"] == 0.5
    assert (answer["images"], answer["anomalous"]) == (5, 2)
    assert answer["folders"] == {"good": {"images": 3, "anomalous": 0}, "scratched": {"images": 2, "anomalous": 2}}
    assert answer["false_alarm_rate"] == np.float32(0.01)
    assert answer["calibrated_size"] == [SIZE, SIZE]


def test_a_table_for_people(server: Served, parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--model", "free", "--address", server.address]
    assert main(["detect", str(parts), *given]) == ANOMALOUS
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "score", "verdict", "regions"]
    assert lines[1].split()[::2] == ["good/0", "normal"]
    assert lines[5].split()[2:] == ["anomalous", "2"]
    on = "calibrated on 1000 images of 80 x 80; of other sizes it is not known"
    assert lines[6:] == [
        "model: free",
        "version: 1",
        "threshold: 0.5",
        "map_threshold: 0.625",
        f"false_alarm_rate: 0.01 (99.9 % interval 0.004 to 0.02, {on})",
        "images: 5",
        "anomalous: 2",
        "anomalous in good: 0 of 3",
        "anomalous in scratched: 2 of 2",
    ]


def test_a_calibration_of_unknown_origin(server: Served, parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", str(parts), "--model", "unknown", "--address", server.address]) == ANOMALOUS
    lines = capsys.readouterr().out.splitlines()
    (promise,) = (line for line in lines if line.startswith("false_alarm_rate: "))
    assert "calibrated on images that are not known; of other sizes" in promise


def test_the_operator_s_own_thresholds(server: Served, parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = (parts / "scratched", "--model", "free", "--address", server.address)
    above = detected(capsys, *given, "--threshold", 1, code=0)
    assert "false_alarm_rate" not in above
    assert [item["anomalous"] for item in above["items"]] == [False, False]
    assert not any(item["regions"] for item in detected(capsys, *given, "--map-threshold", 1)["items"])
    often = detected(capsys, *given, "--false-alarm-rate", 0.5)
    assert (often["threshold"], often["false_alarm_rate"]) == (0.25, np.float32(0.1))
    assert often["false_alarm_interval"] == pytest.approx([0.08, 0.13])


def test_exit_code_0_when_all_are_normal(server: Served, parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = detected(capsys, parts / "good", "--model", "free", "--address", server.address, code=0)
    assert answer["anomalous"] == 0
    assert "folders" not in answer


def test_pictures_of_heat_and_boxes(
    server: Served, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(parts / "one.npy", np.full((SIZE, SIZE), 0.2, np.float32))
    before = {path: path.read_bytes() for path in parts.rglob("*.*")}
    out = tmp_path / "out"
    given = [parts, parts / "one.npy", "--model", "free", "--address", server.address, "--out", out]
    answer = detected(capsys, *given)
    assert [Path(name).relative_to(out).as_posix() for name in answer["files"]] == [
        *(f"good/{index}.png" for index in range(3)),
        *(f"scratched/{index}.png" for index in range(2)),
        "one-00000.png",
    ]
    drawn, source = (np.asarray(Image.open(folder / "scratched/0.png")).astype(int) for folder in (out, parts))
    scale = 384 // SIZE
    assert drawn.shape == (scale * SIZE, scale * SIZE, 3)
    # Nothing is drawn on what is normal, and red on the scratch.
    assert (drawn[0, 0] == source[0, 0]).all()
    assert drawn[scale * 62, scale * 45, 0] > drawn[scale * 62, scale * 45, 2] + 50
    # Nothing is overwritten: not what was written, and not the pictures themselves.
    for again in (out, parts):
        given[-1] = again
        assert main(["detect", *map(str, given)]) == 2
        assert "already exists: choose another --out" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in parts.rglob("*.*")} == before


def test_resized_pictures_are_drawn_in_the_model_s_size(
    server: Served, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = Image.effect_noise((200, 120), 40).convert("RGB")
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(parts / "photo.jpg", exif=exif)
    given = (parts / "photo.jpg", "--resize", "--model", "fixed", "--address", server.address)
    assert main(["detect", *map(str, given), "--out", str(tmp_path)]) in {0, ANOMALOUS}
    with Image.open(tmp_path / "photo.png") as drawn:
        assert drawn.size == (384 // SIZE * SIZE,) * 2
    assert "resized from 200 x 120 to 80 x 80" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--threshold", "x"], "argument --threshold: expected a number, got 'x'"),
        (["--map-threshold", "inf"], "argument --map-threshold: expected a number, got 'inf'"),
        (["--false-alarm-rate", "1%"], "expected a number, got '1%'"),
        (["--false-alarm-rate", "1"], "expected a rate between 0 and 1, such as 0.01, got '1'"),
        (["--false-alarm-rate", "0.1", "--threshold", "1"], "not allowed with argument"),
    ],
)
def test_options_that_cannot_be_meant(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["detect", "x.png", *options])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--model", "free", "--false-alarm-rate", "0.0001"],
            "expected a rate from 0.001, the lowest that the calibration",
        ),
        (["--model", "free", "--map-threshold", "0", "--out", "{}/out"], "map_threshold: expected more than 0.125"),
    ],
)
def test_one_sentence_of_what_is_wrong(
    server: Served, parts: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [each.format(parts) for each in options]
    assert main(["detect", str(parts / "good/0.png"), *given, "--address", server.address]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"hourglass: {parts}/good/0.png: ")
    assert words in line


def test_bench(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["bench", "--method", "detect", "--model", "fixed", "--callers", "1", "--seconds", "0.1", "--json"]
    assert main([*given, "--address", server.address]) == 0
    assert json.loads(capsys.readouterr().out)["failures"] == {}


def test_pictures_need_pillow_and_a_file_to_read_twice(
    server: Served, parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model", "free", "--address", server.address, "--out", str(parts / "out")]
    assert main(["detect", "/dev/null", *given]) == 2
    expected = "expected a regular file, which is read again to draw it"
    assert capsys.readouterr().err == f"hourglass: /dev/null: {expected}\n"
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert main(["detect", str(parts), *given]) == 2
    expected = "expected Pillow, to draw pictures of image files: pip install './client[images]' in a checkout"
    assert capsys.readouterr().err == f"hourglass: {expected}\n"
    assert not (parts / "out").exists()
