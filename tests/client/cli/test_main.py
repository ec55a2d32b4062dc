"""The command line against a real server: files in and out, tables, JSON, exit codes."""

import os
import threading
import tomllib
from importlib import import_module
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hourglass_client.cli.main import main
from PIL import Image

from tests.client.cli.conftest import Command, read
from tests.server.conftest import Served, graph_run, pixels

CLIENT = Path(__file__).resolve().parents[3] / "client"


def test_models(hourglass: Command) -> None:
    answer = hourglass("models")
    assert answer["models"] == 4
    assert {item["model"]: item["image"] for item in answer["items"]}["multitask"] == "8x8x3"


def test_encode_folder_to_npy(hourglass: Command, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes" / "latents.npy"
    answer = hourglass("encode", pictures, "--model", "vae", "--out", out)
    assert [item["image"] for item in answer["items"]] == ["a", "b", "c"]
    batch = np.concatenate([read(pictures / name) for name in ("a.png", "b.png", "c.webp")])
    np.testing.assert_array_equal(np.load(out), graph_run("encode", "vae", batch)[0])
    assert np.float32([item["latents"] for item in answer["items"]]).tolist() == np.load(out).tolist()


def test_encode_array_in_batches(hourglass: Command, tmp_path: Path) -> None:
    batch = pixels(150)
    np.save(tmp_path / "many.npy", batch)
    answer = hourglass("encode", tmp_path / "many.npy", "--model", "vae")
    assert len(answer["items"]) == 150
    np.testing.assert_array_equal(
        np.float32([item["latents"] for item in answer["items"]]), graph_run("encode", "vae", batch)[0]
    )


def test_answers_come_in_the_order_of_the_command_line(hourglass: Command, pictures: Path, tmp_path: Path) -> None:
    for name in ("x", "y"):
        np.save(tmp_path / f"{name}.npy", pixels(2))
    given = [tmp_path / "x.npy", pictures / "c.webp", pictures / "a.png", tmp_path / "y.npy", pictures / "b.png"]
    answer = hourglass("encode", *given, "--model", "vae")
    names = ["x-00000", "x-00001", "c", "a", "y-00000", "y-00001", "b"]
    assert [item["image"] for item in answer["items"]] == names


def test_pipe_is_read_like_a_file(hourglass: Command, pictures: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes((pictures / "a.png").read_bytes()))
    writer.start()
    piped, plain = (hourglass("encode", path, "--model", "vae") for path in (pipe, pictures / "a.png"))
    writer.join()
    assert piped["items"][0]["latents"] == plain["items"][0]["latents"]


def test_refused_file_is_named(server: Served, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (9, 8)).save(pictures / "bb.png")
    assert main(["encode", str(pictures), "--model", "vae", "--address", server.address]) == 2
    assert (
        f"{pictures / 'bb.png'}: expected images of 8 x 8 pixels (height x width), got 8 x 9" in capsys.readouterr().err
    )


def test_sampled_encode_reports_its_seed(hourglass: Command, pictures: Path) -> None:
    first, again = (hourglass("encode", pictures, "--model", "vae", "--sample", "--seed", 7) for _ in range(2))
    assert first == again
    assert first["seed"] == 7


def test_reconstruct_reports_errors_and_writes_images(hourglass: Command, pictures: Path, tmp_path: Path) -> None:
    answer = hourglass("reconstruct", pictures / "a.png", "--model", "vae", "--out", tmp_path / "out")
    images, errors = graph_run("reconstruct", "vae", read(pictures / "a.png"))
    assert np.float32(answer["items"][0]["squared_error"]) == errors[0]
    np.testing.assert_array_equal(read(tmp_path / "out/a.png"), np.rint(images * 255))


def test_denoise(hourglass: Command, pictures: Path, tmp_path: Path) -> None:
    answer = hourglass("denoise", pictures, "--model", "denoiser", "--out", tmp_path / "out")
    assert sorted(Path(name).name for name in answer["files"]) == ["a.png", "b.png", "c.png"]


def test_images_of_one_name_get_numbers(hourglass: Command, pictures: Path, tmp_path: Path) -> None:
    answer = hourglass("denoise", pictures / "a.png", pictures / "a.png", "--model", "denoiser", "--out", tmp_path)
    assert [Path(name).name for name in answer["files"]] == ["a.png", "a-2.png"]


def test_sample_interpolate_edit(hourglass: Command, pictures: Path, tmp_path: Path) -> None:
    vae = ("--model", "vae")
    drawn = hourglass("sample", *vae, "--count", 5, "--seed", 3, "--out", tmp_path / "drawn")
    assert (drawn["seed"], len(drawn["files"])) == (3, 5)
    assert drawn["noise_scheme"]
    ends = (pictures / "a.png", pictures / "b.png")
    walked = hourglass("interpolate", *ends, *vae, "--steps", 4, "--spherical", "--out", tmp_path / "walked")
    assert len(walked["files"]) == 4
    Image.new("L", (20, 10)).save(tmp_path / "large.png")
    out = ("--out", tmp_path / "resized")
    resized = hourglass("interpolate", tmp_path / "large.png", ends[1], *vae, "--steps", 3, "--resize", *out)
    assert len(resized["files"]) == 3
    edited = hourglass("edit", ends[0], *vae, "--shift", "brightness=2", "--out", tmp_path / "edited")
    assert [Path(name).name for name in edited["files"]] == ["a.png"]


def test_classify(hourglass: Command, tmp_path: Path) -> None:
    batch = pixels(2, (8, 8, 3))
    np.save(tmp_path / "batch.npy", batch)
    answer = hourglass("classify", tmp_path / "batch.npy", "--model", "multitask")
    expected = graph_run("classify", "multitask", batch)[0]
    np.testing.assert_array_equal(np.float32([item["probability"] for item in answer["items"]]), expected.max(axis=1))
    assert all(sum(item["probabilities"].values()) == pytest.approx(1) for item in answer["items"])


def test_bench(hourglass: Command) -> None:
    answer = hourglass("bench", "--model", "vae", "--callers", 2, "--rows", 3, "--seconds", 0.3)
    assert answer["rows_per_second"] == pytest.approx(3 * answer["requests_per_second"])
    assert answer["failures"] == {}
    times = [item["milliseconds"] for item in answer["items"]]
    assert [item["percentile"] for item in answer["items"]] == ["p50", "p90", "p99", "p99.9", "max"]
    assert times == sorted(times)


def test_table_for_people(server: Served, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconstruct", str(pictures), "--model", "vae", "--address", server.address]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["image", "squared_error"]
    assert [line.split()[0] for line in lines[:3]] == ["a", "b", "c"]
    assert lines[3:] == ["model: vae", "version: 1"]


def arguments(folder: Path) -> dict[str, tuple[list[str], str]]:
    """Wrong commands, each with a part of its error."""
    image, out = str(folder / "a.png"), str(folder / "out")
    return {
        "no such file": (["encode", str(folder / "x.png"), "--model", "vae"], "nothing exists there"),
        "no image in the folder": (
            ["encode", str(folder.parent / "empty"), "--model", "vae"],
            "expected a folder of image files",
        ),
        "no picture": (["encode", str(folder / "notes.txt"), "--model", "vae"], "PNG, JPEG, WebP"),
        "unknown model": (["encode", image, "--model", "nope"], "There is no model 'nope'"),
        "several models": (["encode", image], "loaded are"),
        "method it lacks": (["classify", image, "--model", "vae"], "it serves"),
        "wrong kind of output": (["encode", image, "--model", "vae", "--out", out], "ending in .npy"),
        "output exists": (["denoise", image, "--model", "denoiser", "--out", str(folder)], "already exists"),
        "no latents": (["decode", str(folder / "notes.txt"), "--model", "vae", "--out", out], "expected a .npy array"),
        "no numbers": (["decode", str(folder / "bad.csv"), "--model", "vae", "--out", out], "comma-separated numbers"),
        "no token": (["models", "--token-file", str(folder / "none")], "none"),
        "many ends": (["interpolate", str(folder / "two.csv"), image, "--model", "vae", "--out", out], "got 2 of them"),
        "nothing to edit": (["edit", "--shift", "brightness=1", "--model", "vae", "--out", out], "images or --latents"),
        "count": (["sample", "--model", "vae", "--count", "0", "--out", out], "count"),
    }


@pytest.mark.parametrize("case", arguments(Path()))
def test_wrong_command_writes_nothing(
    server: Served, pictures: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures.parent / "empty").mkdir()
    (pictures / "bad.csv").write_text("a,b\n")
    (pictures / "two.csv").write_text("1,2,3\n4,5,6\n")
    before = sorted(pictures.rglob("*"))
    wrong, words = arguments(pictures)[case]
    assert main([*wrong, "--address", server.address]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.startswith("hourglass: ")
    assert printed.out == ""
    assert sorted(pictures.rglob("*")) == before


@pytest.mark.parametrize(
    "wrong", [[], ["fly"], ["edit", "a.png", "--out", "x"], ["edit", "a.png", "--shift", "slant", "--out", "x"]]
)
def test_bad_usage(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(wrong)
    assert caught.value.code == 2
    assert "usage: hourglass" in capsys.readouterr().err


def test_no_server_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--address", "127.0.0.1:1", "--timeout", "1"]) == 1
    assert "UNAVAILABLE" in capsys.readouterr().err


def test_a_failed_write_leaves_nothing(hourglass: Command, pictures: Path, tmp_path: Path) -> None:
    """The second batch is refused, after the first was answered."""
    stream = BytesIO()
    Image.new("L", (9, 9)).save(stream, "PNG")
    for index in range(64):
        (pictures / f"d{index}.png").write_bytes((pictures / "a.png").read_bytes())
    (pictures / "z.png").write_bytes(stream.getvalue())
    with pytest.raises(AssertionError):
        hourglass("denoise", pictures, "--model", "denoiser", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command_is_installed_with_the_client() -> None:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["hourglass"].partition(":")
    assert getattr(import_module(module), name) is main
