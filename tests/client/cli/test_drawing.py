"""Images from latent vectors on the command line: any number of them, from files, into files that sort."""

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hourglass_client.cli import commands
from hourglass_client.cli.inputs import UsageError
from hourglass_client.cli.main import main
from hourglass_client.cli.results import OutputFiles

from bundle.noise import Purpose, normals
from tests.client.cli.conftest import Command, read
from tests.server.conftest import Served, graph_run, pixels


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_decode(hourglass: Command, tmp_path: Path, suffix: str) -> None:
    latents = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    source = tmp_path / f"latents{suffix}"
    np.save(source, latents) if suffix == ".npy" else np.savetxt(source, latents, delimiter=",", fmt="%.9g")
    answer = hourglass("decode", source, "--model", "vae", "--out", tmp_path / "out")
    assert [Path(name).name for name in answer["files"]] == ["latent-0000.png", "latent-0001.png"]
    expected = np.rint(graph_run("decode", "vae", latents)[0] * 255)
    np.testing.assert_array_equal(read(Path(answer["files"][1]))[0], expected[1])


def test_decode_takes_more_than_fits_in_a_request(hourglass: Command, tmp_path: Path) -> None:
    latents = np.random.default_rng(0).normal(size=(1100, 3)).astype(np.float32)
    np.save(tmp_path / "many.npy", latents)
    answer = hourglass("decode", tmp_path / "many.npy", "--model", "vae", "--out", tmp_path / "out")
    assert len(answer["files"]) == 1100
    expected = np.rint(graph_run("decode", "vae", latents)[0] * 255)
    np.testing.assert_array_equal(read(Path(answer["files"][1099]))[0], expected[1099])


def test_sample_takes_more_than_fits_in_a_request(hourglass: Command, tmp_path: Path) -> None:
    answer = hourglass("sample", "--model", "vae", "--count", 1100, "--out", tmp_path)
    assert len(answer["files"]) == 1100
    drawn = normals(answer["seed"], Purpose.SAMPLE, 0, 1100, 3)
    expected = np.rint(np.clip(graph_run("decode", "vae", drawn)[0], 0, 1) * 255)
    for index in (0, 63, 64, 1099):
        np.testing.assert_array_equal(read(Path(answer["files"][index]))[0], expected[index])


def test_ends_of_a_path_are_latents_or_images(hourglass: Command, pictures: Path, tmp_path: Path) -> None:
    latents = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "start.npy", latents[0])
    np.savetxt(tmp_path / "stop.csv", latents[1:], delimiter=",", fmt="%.9g")
    np.save(tmp_path / "image.npy", pixels(3)[1, ..., 0])

    def path(start: Path, stop: Path) -> np.ndarray:
        out = tmp_path / f"{start.stem}-{stop.stem}"
        answer = hourglass("interpolate", start, stop, "--model", "vae", "--steps", 2, "--out", out)
        return np.concatenate([read(Path(name)) for name in answer["files"]])

    expected = np.rint(graph_run("decode", "vae", latents)[0] * 255)
    np.testing.assert_array_equal(path(tmp_path / "start.npy", tmp_path / "stop.csv"), expected)
    # The second of the images that `pictures` has as files.
    np.testing.assert_array_equal(
        path(tmp_path / "image.npy", tmp_path / "stop.csv"), path(pictures / "a.png", tmp_path / "stop.csv")
    )


def test_edit_latents(hourglass: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "latents.npy", np.zeros((70, 3), np.float32))
    given = ("--latents", tmp_path / "latents.npy", "--shift", "brightness=2", "--out", tmp_path / "out")
    answer = hourglass("edit", *given, "--model", "vae")
    assert [Path(name).name for name in answer["files"]] == [f"latent-{index:04}.png" for index in range(70)]


def test_an_existing_output_is_reported_before_any_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No server is asked."""
    (tmp_path / "sample-0001.png").touch()
    np.save(tmp_path / "latents.npy", np.zeros((2, 3), np.float32))
    (tmp_path / "latent-0001.png").touch()
    for command in (["sample", "--count", "2"], ["decode", str(tmp_path / "latents.npy")]):
        assert main([*command, "--out", str(tmp_path), "--address", "127.0.0.1:1"]) == 2
        assert "0001.png already exists" in capsys.readouterr().err


def test_file_names_sort_by_number(tmp_path: Path) -> None:
    names = [path.name for path in commands._numbered(tmp_path, "sample", 10_001)]
    assert (names[0], names[-1]) == ("sample-00000.png", "sample-10000.png")
    assert names == sorted(names)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may have more than 100 bytes: a write fails as on a full disk."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_leaves_nothing_behind(server: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "out"
    arguments = ["sample", "--count", "3", "--model", "vae", "--out", str(out), "--address", server.address]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"hourglass: --out: cannot write {out}/sample-0000.png: File too large; nothing was written"
    (tmp_path / "there").mkdir()
    with OutputFiles() as files:
        files.add(tmp_path / "there" / "a", b"short")
        with pytest.raises(UsageError, match="b: File too large"):
            files.add(tmp_path / "there" / "new" / "b", bytes(101))
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]
