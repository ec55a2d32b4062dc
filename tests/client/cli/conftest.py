"""A server, commands to it, and pictures."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hourglass_client.cli.main import main
from PIL import Image

from tests.server.conftest import GOLDEN, Served, pixels, serving

Command = Callable[..., dict]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(GOLDEN, poll_seconds=0) as served:
        yield served


@pytest.fixture
def hourglass(server: Served, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command with --json and returns what it printed."""

    def run(*arguments: object) -> dict:
        assert main([*map(str, arguments), "--address", server.address, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three images and a text."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, image in zip(("b.png", "a.png", "c.webp"), pixels(3), strict=True):
        Image.fromarray(image[..., 0]).save(folder / name, lossless=True)
    (folder / "notes.txt").write_text("no image")
    return folder


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))[None, ..., None]
