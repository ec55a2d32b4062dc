"""Runs third-party clients, each a program in its own environment: `make clients` installs them."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/clients"
NODE_MODULES = BUILD / "node/node_modules"


def run_python(environment: str, program: str, *arguments: str) -> Any:
    """Output of a program of this folder: the JSON of its last line."""
    python = BUILD / environment / "bin/python"
    if not python.exists():
        pytest.skip(f"the client {environment} is absent: run `make clients`")
    return _run([str(python), str(Path(__file__).with_name(program)), *arguments])


def run_node(program: Path, *arguments: str) -> Any:
    """Output of a program for Node."""
    node = shutil.which("node")
    if node is None or not (NODE_MODULES / "@grpc/grpc-js").exists():
        pytest.skip("Node or @grpc/grpc-js is absent: run `make clients`")
    return _run([node, str(program), *arguments], NODE_PATH=str(NODE_MODULES))


def _run(command: list[str], **environment: str) -> Any:
    # Neither our stubs nor our packages are on the path of a third-party client.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd="/", env={**clean, **environment}
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])
