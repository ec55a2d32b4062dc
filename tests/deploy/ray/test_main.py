"""What goes wrong at the command line is one sentence, with an exit code."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from deploy.ray import __main__ as command_line
from deploy.ray.settings import ClusterError, ClusterSettings
from tests.deploy.conftest import free_port


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.ray", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_file_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text("[replicas]\nthreads = 3\n")
    ended = run("up", "--settings", str(file))
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"python -m deploy.ray: {file}: [replicas] threads: unknown key, expected one of")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["status"], ["scale", "2"]])
def test_ray_that_cannot_be_reached(tmp_path: Path, command: list[str]) -> None:
    file, address = tmp_path / "cluster.toml", f"127.0.0.1:{free_port()}"
    file.write_text(f'[ray]\naddress = "{address}"\n')
    ended = run(*command, "--settings", str(file))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"python -m deploy.ray: no Ray at {address}: ")
    assert "start it (docs/scale-out.md), or name another in [ray] address" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_what_is_up_already_is_said_whether_or_not_the_models_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_line, "_find", object)
    with pytest.raises(ClusterError, match="it is up already"):
        command_line._up(ClusterSettings().with_models("file:///absent"), Namespace())
