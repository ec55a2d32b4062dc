"""The client needs nothing but its declared dependencies."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import hourglass_client

FOLDER = Path(hourglass_client.__file__).parents[1]
DEPENDENCIES = ("grpc", "numpy", "google.protobuf", "google.rpc.status_pb2", "google.rpc.error_details_pb2")
LIST_MODULES = """
import json, sys
specs = {name: str(vars(module).get("__spec__")) for name, module in sys.modules.items()}
print(json.dumps([name for name, spec in specs.items() if "site-packages" in spec]))
"""


def packages(*imports: str) -> set[str]:
    """Installed packages that are loaded once these are imported."""
    program = f"import {', '.join(imports)}\n{LIST_MODULES}"
    listed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    return {name.partition(".")[0] for name in json.loads(listed)}


def test_imports_nothing_but_its_dependencies() -> None:
    assert packages("hourglass_client") == packages(*DEPENDENCIES)


def test_make_setup_installs_the_command(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    command = python.with_name("hourglass")
    subprocess.run(["make", "--silent", f"VENV={tmp_path}", command], check=True, cwd=FOLDER.parent)
    plan = ["make", "--dry-run", f"VENV={tmp_path}", "setup"]
    assert "--editable" in subprocess.run(plan, check=True, cwd=FOLDER.parent, capture_output=True, text=True).stdout
    called = subprocess.run([command, "models", "--timeout", "a b"], check=False, capture_output=True, text=True)
    assert called.returncode == 2
    assert "hourglass models: error: argument --timeout: expected seconds above 0, got 'a b'" in called.stderr


def test_versions_agree() -> None:
    own = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
    whole = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
    assert own["version"] == whole["version"]
    asked = {need for extra in whole["optional-dependencies"].values() for need in extra} | set(whole["dependencies"])
    assert set(own["dependencies"]) <= asked


def test_public_names_exist() -> None:
    assert hourglass_client.__all__ == sorted(hourglass_client.__all__)
    assert all(hasattr(hourglass_client, name) for name in hourglass_client.__all__)
