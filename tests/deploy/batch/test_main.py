"""The command, as a user starts it, on Ray."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hourglass_client import Client

from deploy.batch.options import Options
from tests.deploy.batch.conftest import VAE, noise, rows, write
from tests.server.conftest import serving


def test_does_a_folder_and_later_what_is_new_in_it(tmp_path: Path, run: Callable[..., tuple[int, str]]) -> None:
    files = {f"{index:03}.png": data for index, data in enumerate(noise(60))}
    images, output = write(tmp_path / "images", files), tmp_path / "out"
    arguments = ("encode", VAE, images, output, "--workers", 1)
    code, said = run(*arguments, "--part-images", 25)
    assert (code, "60 images in" in said) == (0, True), said
    with serving(VAE.parents[1]) as served, Client(served.address) as client:
        latents = client.encode([*files.values()], model="vae").latents
    found = rows(output)
    assert [found[name]["latents"] for name in files] == latents.tolist()
    before = {path: path.stat().st_mtime_ns for path in (output / "parts").iterdir()}
    assert not (output / "tries").exists()

    code, said = run(*arguments)
    assert (code, "60 of 60 images are done already" in said) == (0, True), said
    assert {path: path.stat().st_mtime_ns for path in (output / "parts").iterdir()} == before

    code, said = run(*arguments, "--resize")
    assert (code, "resize False and not True: name another output" in said) == (2, True), said


@pytest.mark.parametrize(
    ("task", "given", "expected"),
    [
        ("encode", ["nothing", "{images}", "{output}"], "with a model.json in it"),
        ("encode", ["{bundle}", "{empty}", "{output}"], "found none"),
        ("denoise", ["{bundle}", "{images}", "{output}"], "has no Denoise: it serves Decode, Edit, Encode"),
        ("encode", ["{bundle}", "{images}", "{output}", "--workers", "-1"], "--workers: expected 0 to"),
        ("encode", ["{bundle}", "{images}", "{output}", "--batch-images", "0"], "--batch-images: expected 1 to 1024"),
        ("encode", ["{bundle}", "{images}", "{output}", "--part-images", "0"], "--part-images: expected 1 to"),
        ("encode", ["{bundle}", "nothing://x", "{output}"], "Protocol not known: nothing"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_before_ray_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, given: list[str], expected: str
) -> None:
    from deploy.batch.__main__ import main  # noqa: PLC0415 (it sets environment variables)

    places = {name: str(tmp_path / name) for name in ("images", "output", "empty")} | {"bundle": str(VAE)}
    write(tmp_path / "images", {"a.png": noise(1)[0]})
    assert main([task, *(each.format(**places) for each in given)]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert not (tmp_path / "output").exists()


def test_settings_of_the_server_that_are_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploy.batch.__main__ import main  # noqa: PLC0415 (as above)

    monkeypatch.setenv("HOURGLASS_MAX_IMAGE_PIXELS", "many")
    assert main(["encode", str(VAE), str(tmp_path), str(tmp_path / "out")]) == 2
    assert "--max-image-pixels (HOURGLASS_MAX_IMAGE_PIXELS): expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "damage", "expected"),
    [
        ("images", {}, "expected an output outside of the images"),
        ("images/out", {}, "expected an output outside of the images"),
        ("images/a.png/out", {}, "expected an output outside of the images"),
        ("file", {}, "job.json: expected a readable file: Not a directory"),
        ("loop", {}, "job.json: expected a readable file: Too many levels of symbolic links"),
        ("out", {"job.json": b""}, "job.json: expected what a job wrote: Expecting value"),
        ("out", {"job.json": b"[]"}, "job.json: expected what a job wrote: list in it: name another output"),
        ("out", {"job.json": b"\xff"}, "job.json: expected what a job wrote: 'utf-8' codec"),
        ("out", {"plan/000000.parquet": b""}, "000000.parquet: expected the plan of a job"),
        ("out", {"plan": b"no folder"}, "000000.parquet: expected a file that can be written: File exists"),
        ("out", {"parts/part-000000.parquet": b""}, "part-000000.parquet: expected rows that a job wrote"),
    ],
)
def test_an_output_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, damage: dict[str, bytes], expected: str
) -> None:
    from deploy.batch.__main__ import main  # noqa: PLC0415 (as above)

    write(tmp_path, {"images/a.png": noise(1)[0], "file": b""})
    (tmp_path / "loop").symlink_to("loop")
    write(tmp_path / "out", damage)
    before = sorted(tmp_path.rglob("*"))
    assert main(["encode", str(VAE), str(tmp_path / "images"), str(tmp_path / output)]) == 2
    said = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("deploy.batch: "))
    assert expected in said
    assert "out" in output or sorted(tmp_path.rglob("*")) == before


def test_foreign_files_among_the_parts_are_not_counted(tmp_path: Path) -> None:
    from deploy.batch.job import Done, Job  # noqa: PLC0415 (as above)

    images = write(tmp_path / "images", {"a.png": noise(1)[0]})
    write(tmp_path / "out" / "parts", {"notes.txt": b"", "part-000009.parquet": b""})
    job = Job(Options(task="encode", bundle=str(VAE), images=str(images), output=str(tmp_path / "out")), {})
    assert (job.total(), len(job.left)) == (Done(0, 0), 1)
