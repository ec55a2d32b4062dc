"""Files, folders and arrays of the command line against a real server."""

import shutil
from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import pytest
from hourglass_client.cli import inputs
from hourglass_client.cli.inputs import batches, shift
from hourglass_client.cli.main import main
from PIL import Image

from bundle.images.decoder import SUFFIXES
from tests.client.cli.conftest import Command
from tests.server.conftest import Served, graph_run, pixels


@pytest.fixture
def classes(pictures: Path) -> Path:
    """Two class folders, one of them a link, and what is none of the user's images."""
    root = pictures.parent / "classes"
    for folder in ("round", ".ipynb_checkpoints"):
        shutil.copytree(pictures, root / folder)
    (root / "square").symlink_to(pictures)
    (root / "round" / "again").symlink_to(root)
    (root / "round" / "._a.png").write_bytes(b"AppleDouble")
    return root


NAMES = [f"{folder}/{name}" for folder in ("round", "square") for name in "abc"]


def test_folder_is_searched_with_its_subfolders(hourglass: Command, classes: Path, tmp_path: Path) -> None:
    answer = hourglass("encode", classes, "--model", "vae")
    assert [item["image"] for item in answer["items"]] == NAMES
    hourglass("denoise", classes, "--model", "denoiser", "--out", tmp_path / "out")
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert written == [f"{name}.png" for name in NAMES]


def test_names_never_collide(hourglass: Command, pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "a.png", pictures / "a-2.png")
    given = (pictures / "a.png", pictures / "a.png", pictures / "a-2.png")
    answer = hourglass("denoise", *given, "--model", "denoiser", "--out", tmp_path)
    assert [Path(name).name for name in answer["files"]] == ["a.png", "a-2.png", "a-2-2.png"]


@pytest.mark.parametrize("suffix", ["bmp", "gif", "tiff", "JPG"])
def test_folder_takes_every_format_of_the_server(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Image.fromarray(pixels(1)[0, ..., 0]).save(tmp_path / f"picture.{suffix}")
    assert main(["encode", str(tmp_path), "--address", "127.0.0.1:1", "--timeout", "0.2"]) == 1
    assert "UNAVAILABLE" in capsys.readouterr().err


def test_one_colour_image_in_an_array(hourglass: Command, tmp_path: Path) -> None:
    batch = pixels(1, (8, 8, 3))
    np.save(tmp_path / "one.npy", batch[0])
    answer = hourglass("classify", tmp_path / "one.npy", "--model", "multitask")
    assert [item["image"] for item in answer["items"]] == ["one-00000"]
    assert answer["items"][0]["probability"] == graph_run("classify", "multitask", batch)[0].max()


def test_latents_of_a_spreadsheet(hourglass: Command, tmp_path: Path) -> None:
    (tmp_path / "z.csv").write_bytes(b"\xef\xbb\xbf1,2,3\r\n\r\n4,5,6\r\n")
    answer = hourglass("decode", tmp_path / "z.csv", "--model", "vae", "--out", tmp_path / "out")
    assert len(answer["files"]) == 2


def test_batches_are_bounded_by_items_and_bytes(tmp_path: Path) -> None:
    assert [len(some) for some in batches(np.zeros((130, 3), np.float32))] == [64, 64, 2]
    # 5 MiB each.
    assert [len(some) for some in batches(np.zeros((7, 5, 2**20), np.uint8))] == [3, 3, 1]
    paths = [tmp_path / name for name in ("photo", "large", "small", "gone")]
    for path, size in zip(paths, (2**23, 2**25, 1), strict=False):
        with path.open("wb") as file:
            file.truncate(size)
    assert list(batches(paths)) == [paths[:1], paths[1:2], paths[2:]]


@pytest.mark.parametrize("text", ["slant", "=1", "slant=", "slant=much"])
def test_shift_is_a_name_and_an_amount(text: str) -> None:
    assert shift("a=b=-1.5") == ("a=b", -1.5)
    with pytest.raises(ArgumentTypeError, match="expected NAME=AMOUNT"):
        shift(text)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("\n", "got an empty file"),
        (np.zeros((0, 3), np.float32), "expected floats"),
        (np.zeros((2, 3, 4), np.float32), "expected (N, 3)"),
        (np.zeros((1, 1, 2, 3, 4), np.float32), "expected floats (N, D)"),
    ],
    ids=["csv", "no rows", "rank", "axes"],
)
def test_unusable_latents(
    server: Served, content: str | np.ndarray, words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / ("z.csv" if isinstance(content, str) else "z.npy")
    if isinstance(content, str):
        path.write_text(content)
    else:
        np.save(path, content)
    command = ["decode", str(path), "--model", "vae", "--out", str(tmp_path / "out"), "--address", server.address]
    assert main(command) == 2
    assert words in capsys.readouterr().err


def test_a_folder_holds_what_training_and_server_read() -> None:
    assert set(SUFFIXES) == inputs._IMAGE_SUFFIXES
