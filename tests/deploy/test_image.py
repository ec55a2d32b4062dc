"""The image without a container engine: the same layout in a folder, only its packages, and a running server."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hourglass_client import Client
from packaging.requirements import Requirement

from tests.deploy.conftest import DEPLOY, GOLDEN, ROOT
from tests.server.conftest import pixels

LINE = re.compile(r"listening grpc=(\S+) metrics=(\S+)\n")
MIB = 2**20
# Of the explorer, a page.
PAGE_SUFFIXES = {".html", ".css", ".js", ".svg", ".txt"}


def closure(lines: list[str]) -> set[str]:
    """Names of the installed distributions that the requirements pull in."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in lines]
    while waiting:
        requirement = waiting.pop()
        if requirement.marker and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in (requirement.extras or {""})
        ):
            continue
        distribution = importlib.metadata.distribution(requirement.name)
        key = distribution.metadata["Name"] + ",".join(sorted(requirement.extras))
        if key not in found:
            found.add(key)
            for line in distribution.requires or []:
                inner = Requirement(line)
                if inner.marker is None or any(
                    inner.marker.evaluate({"extra": extra}) for extra in (requirement.extras or {""})
                ):
                    inner.marker = None
                    waiting.append(inner)
    return {re.split(",", name)[0] for name in found}


def link_packages(folder: Path, names: set[str]) -> int:
    """Links to the files that pip would install into a folder; their size in bytes."""
    size = 0
    for name in names:
        for file in importlib.metadata.distribution(name).files or []:
            source = Path(file.locate())
            if file.parts[0] == ".." or "__pycache__" in file.parts or not source.is_file():
                continue
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(source)
                size += source.stat().st_size
    return size


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, str(DEPLOY / "image.py"), str(folder), "cpu"], check=True)
    return folder


@pytest.fixture(scope="module")
def packages(image: Path) -> tuple[Path, int]:
    """Folder and size of the image's packages."""
    folder = image / "packages"
    return folder, link_packages(folder, closure((image / "requirements.txt").read_text().splitlines()))


@pytest.fixture
def address(image: Path, packages: tuple[Path, int]) -> Iterator[str]:
    """A server as the image would run it: only its two folders are on the path."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{image / 'app'}:{packages[0]}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOURGLASS_REPOSITORY": str(GOLDEN),
        "HOURGLASS_PORT": "0",
        "HOURGLASS_METRICS_PORT": "0",
    }
    command = [sys.executable, "-S", "-P", "-m", "server"]
    with subprocess.Popen(command, cwd="/", env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = LINE.fullmatch(process.stdout.readline())
            assert line
            yield line[1]
        finally:
            process.terminate()
        assert process.wait(30) == 0


def test_holds_the_server_and_nothing_else(image: Path) -> None:
    assert {path.name for path in (image / "app").iterdir() if not path.name.endswith(".dist-info")} == {
        "server",
        "bundle",
        "autoencoder",
        "inference",
        "xds",
    }
    suffixes = {path.suffix for path in (image / "app").rglob("*") if path.is_file()}
    assert suffixes <= {".py", ".typed", "", *PAGE_SUFFIXES}


def test_serves_from_its_own_files_alone(address: str) -> None:
    with Client(address) as client:
        encoded = client.encode(pixels(2), model="vae")
        assert np.isfinite(encoded.latents).all()


def test_has_no_training_packages_and_is_small(packages: tuple[Path, int]) -> None:
    folder, size = packages
    names = {path.name for path in folder.iterdir()}
    assert "onnxruntime" in names
    assert not names & {"torch", "onnx", "sklearn", "scipy", "matplotlib", "pytest"}
    assert size <= 250 * MIB


def test_the_cuda_image_differs_by_the_runtime_alone(image: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(DEPLOY / "image.py"), str(tmp_path), "gpu"], check=True)
    cpu, gpu = (set((folder / "requirements.txt").read_text().splitlines()) for folder in (image, tmp_path))
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert (cpu - gpu, gpu - cpu) == (set(optional["cpu"]), set(optional["gpu"]))


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    subprocess.run([str(hadolint), str(DEPLOY / "Dockerfile")], check=True)


def test_the_build_sees_what_it_copies() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert {f"!{source}" for source in sources} <= set(ignored)
    assert all((ROOT / source).exists() for source in sources)


def test_does_not_run_as_root() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^USER (\d+):\d+$", dockerfile, re.MULTILINE)[1] != "0"
