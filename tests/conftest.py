"""What all tests share."""

import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest
from filelock import FileLock

MadeOnce: TypeAlias = Callable[[str, Callable[[Path], object]], Path]

# The files that take longest, longest first. A process runs whole files (`--dist loadfile`): one of these begun last
# would leave the others idle.
LONGEST = (
    "deploy/test_container.py",
    "end_to_end/test_methods.py",
    "deploy/cluster/test_cluster.py",
    "deploy/test_alerts.py",
    "server/models/test_watchdog.py",
    "end_to_end/test_drift.py",
    "training/test_known_defects.py",
    "end_to_end/test_image_sizes.py",
    "training/test_distributed.py",
    "training/test_train.py",
    "export/test_exporter.py",
    "export/zoo/test_zoo.py",
    "server/test_untrusted_clients.py",
    "deploy/test_rolling_restart.py",
    "server/test_main.py",
    "training/reproduction/test_reproduction.py",
    "training/test_kills.py",
    "deploy/batch/test_job.py",
    "training/test_several_nodes.py",
    "training/evaluation/test_attributes.py",
    "server/batching/test_admission.py",
    "reliability/test_chaos.py",
    "reliability/test_flood_latency.py",
    "bench/test_gpu.py",
    "reliability/test_soak.py",
)
_RANKS = {name: rank for rank, name in enumerate(LONGEST)}


def pytest_configure() -> None:
    """Ctrl-C ends what tests start: a shell's jobs in the background are told to ignore it, and hand that on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    tests = Path(__file__).parent
    items.sort(key=lambda item: _RANKS.get(item.path.relative_to(tests).as_posix(), len(LONGEST)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With TEST_REQUIRE_ALL=1 nothing may be skipped: an absent component is a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("TEST_REQUIRE_ALL"):
        report.outcome = "failed"
        report.longrepr = f"TEST_REQUIRE_ALL is set, yet this was skipped: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def known_operators() -> None:
    """The functions of the exporter are read once in a process: for each graph that would take half a second."""
    from torch.onnx._internal.exporter import _registration  # noqa: PLC0415 (loads PyTorch)

    operators = _registration.onnxscript_apis
    operators.get_torchlib_ops = functools.cache(operators.get_torchlib_ops)


@dataclass(frozen=True)
class Demo:
    """What a run of the demo left: its runs, the models that it exported, what it printed."""

    runs: Path
    models: Path
    output: str


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MadeOnce:
    """A folder by name, filled by the first of the test processes that needs it; the others wait, then read it."""
    root = tmp_path_factory.getbasetemp()
    root = root if worker_id == "master" else root.parent

    def made(name: str, fill: Callable[[Path], object]) -> Path:
        folder, ended = root / name, root / f"{name}.made"
        with FileLock(root / f"{name}.lock"):
            if not ended.exists():
                shutil.rmtree(folder, ignore_errors=True)
                fill(folder)
                ended.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def demo(made_once: MadeOnce) -> Demo:
    """The demo, run as `make demo` runs it, with two epochs a model."""
    root = made_once("demo", run_demo)
    return Demo(root / "runs", root / "models", (root / "output").read_text())


def run_demo(root: Path) -> None:
    flags = ["--data", "digits", "--epochs", "2", "--runs", str(root / "runs"), "--models", str(root / "models")]
    ended = subprocess.run([sys.executable, "-m", "examples.demo", *flags], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    (root / "output").write_text(ended.stdout)
