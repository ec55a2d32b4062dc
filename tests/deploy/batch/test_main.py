"""The command, as a user starts it, on Ray."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hourglass_client import Client

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
