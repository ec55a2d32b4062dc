"""A cluster for each test, and the models that its servers are upgraded between."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.cluster import machines
from tests.deploy.cluster.cluster import Cluster
from tests.deploy.conftest import GOLDEN
from tests.deploy.envoy import proxy


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if problem := machines.problem():
        pytest.skip(problem)
    proxy.program()
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three folders of models: a first version, another one, and one whose weights are damaged."""
    folders = [tmp_path / name for name in ("first", "second", "damaged")]
    for folder in folders:
        shutil.copytree(GOLDEN / "vae", folder / "vae")
    graph = next((folders[2] / "vae").rglob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    return folders[0], folders[1], folders[2]
