"""The step that installs the transport's wheel by hash: pip itself, offline, with a wheel that somebody else made."""

import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

from tests.deploy.conftest import DEPLOY, ROOT

HASHED = ROOT / "hashed-requirements.txt"
PINNED = re.compile(r"^(\S+)==([\w.]+)", re.MULTILINE)


def write_wheel(folder: Path, name: str, version: str) -> Path:
    """A wheel of one module, complete for pip."""
    module = name.replace("-", "_")
    wheel, about = folder / f"{module}-{version}-py3-none-any.whl", f"{module}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{module}.py", "")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", f"{module}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return wheel


def install(requirements: Path, wheels: Path, target: Path) -> subprocess.CompletedProcess[str]:
    offline = ["--isolated", "install", "--no-index", "--find-links", str(wheels), "--target", str(target)]
    command = [sys.executable, "-m", "pip", *offline, "--no-deps", "--requirement", str(requirements)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_only_a_wheel_of_a_listed_hash_is_installed(tmp_path: Path) -> None:
    name, version = PINNED.search(HASHED.read_text()).groups()
    wheel = write_wheel(tmp_path, name, version)
    refused = install(HASHED, tmp_path, tmp_path / "refused")
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    listed = tmp_path / "listed.txt"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    listed.write_text(re.sub(r"sha256:\w+", f"sha256:{digest}", HASHED.read_text(), count=1))
    assert install(listed, tmp_path, tmp_path / "accepted").returncode == 0
    assert (tmp_path / "accepted" / f"{name.replace('-', '_')}.py").exists()


def test_the_hashed_version_is_the_one_of_constraints_and_project() -> None:
    name, version = PINNED.search(HASHED.read_text()).groups()
    assert f"\n{name}=={version}\n" in (ROOT / "constraints.txt").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = next(line for line in project["optional-dependencies"]["server"] if line.startswith(name))
    specifier = Requirement(wanted).specifier
    assert version in specifier
    # Of a release before 1.0 each minor version may change anything.
    assert "0.6.0" not in specifier


def test_setup_and_image_install_it_before_the_rest() -> None:
    rule = re.search(r"^\$\(VENV\)/run:.*\n(\t.*\n)+", (ROOT / "Makefile").read_text(), re.MULTILINE)[0]
    assert rule.index("$(HASHED)") < rule.index("$(PIP)")
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert "--requirement hashed-requirements.txt" in dockerfile
    installs = re.findall(r"^RUN pip install .*$", dockerfile, re.MULTILINE)
    assert installs
    assert all(line.endswith(" /wheels/*.whl") for line in installs)
