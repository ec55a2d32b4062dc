"""Folders of images, and jobs as a user starts them."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.deploy.conftest import GOLDEN, ROOT

VAE = GOLDEN / "vae" / "1"


def png(pixels: np.ndarray) -> bytes:
    """A file of an image (H, W, 1)."""
    stream = io.BytesIO()
    Image.fromarray(pixels[:, :, 0]).save(stream, "PNG")
    return stream.getvalue()


def noise(count: int, height: int = 8, width: int = 8, seed: int = 0) -> list[bytes]:
    """Files of noise."""
    rng = np.random.default_rng(seed)
    return [png(rng.integers(0, 256, (height, width, 1), np.uint8)) for _ in range(count)]


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def rows(output: Path) -> dict[str, dict]:
    """Rows of a job by id, each there once."""
    found = pq.read_table(output / "parts").to_pylist()
    by_id = {row["id"]: row for row in found}
    assert len(by_id) == len(found)
    return by_id


def table(path: Path, columns: dict[str, list], group: int = 1024) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=group)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "deploy.batch", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str]]:
    """Runs the command; its exit code and what it said."""

    def finish(*arguments: object) -> tuple[int, str]:
        process = start(*arguments)
        out, err = process.communicate(timeout=240)
        return process.returncode, out + err

    return finish
