"""Third-party components (Prometheus, HAProxy) next to the real server."""

import shutil
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
GOLDEN = ROOT / "tests" / "golden"


def component(name: str) -> str:
    """Path of a program; without it the test is skipped (TEST_REQUIRE_ALL=1 makes that a failure)."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if path is None:
        pytest.skip(f"{name} is absent: apt-get install prometheus haproxy gcc libc6-dev buildah mmdebstrap")
    return path


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]
