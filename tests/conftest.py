"""What all tests share."""

import os
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With HOURGLASS_REQUIRE_ALL=1 nothing may be skipped: an absent component is a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("HOURGLASS_REQUIRE_ALL"):
        report.outcome = "failed"
        report.longrepr = f"HOURGLASS_REQUIRE_ALL is set, yet this was skipped: {report.longrepr}"
    return report


@dataclass(frozen=True)
class Demo:
    """What a run of the demo left: its runs, the models that it exported, what it printed."""

    runs: Path
    models: Path
    output: str


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo, run as `make demo` runs it, with two epochs a model."""
    root = tmp_path_factory.mktemp("demo")
    runs, models = root / "runs", root / "models"
    flags = ["--data", "digits", "--epochs", "2", "--runs", str(runs), "--models", str(models)]
    ended = subprocess.run([sys.executable, "-m", "examples.demo", *flags], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return Demo(runs, models, ended.stdout)
