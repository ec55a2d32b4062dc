"""The process of a replica: it serves, stops in order, ends with its owner, and says why it failed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.ray.decision import Phase
from deploy.ray.process import Probe, Refusals, ServerProcess
from tests.deploy.conftest import GOLDEN

HOST = "127.0.0.1"
SETTINGS = {"lame_duck_seconds": "0", "poll_seconds": "0"}
OWNER = """
import sys, time
from pathlib import Path
from deploy.ray.process import ServerProcess
owned = ServerProcess(Path(sys.argv[1]), "127.0.0.1", (0, 0), {"lame_duck_seconds": "0"})
owned.start()
print("pid", owned._process.pid, flush=True)
time.sleep(600)
"""

# A library of a card that the page of metrics fails with, while a file is there.
BROKEN_CARD = """
from pathlib import Path
class NVMLError(Exception): pass
def nvmlInit(): pass
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): raise OSError("gone") if Path({!r}).exists() else NVMLError
def nvmlDeviceGetMemoryInfo(card): pass
def nvmlDeviceGetUtilizationRates(card): pass
"""


def wait(holds: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def settled(process: ServerProcess) -> Probe:
    wait(lambda: process.probe().phase is not Phase.STARTING)
    return process.probe()


def test_it_serves_and_stops_in_order() -> None:
    process = ServerProcess(GOLDEN, HOST, (0, 0), SETTINGS)
    assert process.probe().phase is Phase.FAILED
    process.start()
    assert process.probe().phase is Phase.STARTING
    probe = settled(process)
    assert (probe.phase, probe.rows, probe.refused) == (Phase.READY, 0, False)
    host, _, port = probe.address.rpartition(":")
    socket.create_connection((host, int(port))).close()
    process.stop()
    wait(process.ended)
    assert process.probe() == Probe(Phase.FAILED, "the server exited with code 0")


def test_a_damaged_bundle_fails_it_and_is_named(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "vae", tmp_path / "vae")
    graph = next(tmp_path.rglob("encode.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    process = ServerProcess(tmp_path, HOST, (0, 0), SETTINGS | {"poll_seconds": "0.1"})
    process.start()
    probe = settled(process)
    assert probe.phase is Phase.FAILED
    assert probe.refused
    assert "vae version 1" in probe.reason
    graph.write_bytes(next(GOLDEN.joinpath("vae").rglob("encode.onnx")).read_bytes())
    wait(lambda: process.probe().phase is Phase.READY)
    assert not process.probe().refused
    process.stop()
    wait(process.ended)


def test_metrics_that_fail_are_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage = tmp_path / "damage"
    (tmp_path / "pynvml.py").write_text(BROKEN_CARD.format(str(damage)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    process = ServerProcess(GOLDEN, HOST, (0, 0), SETTINGS)
    process.start()
    assert settled(process).phase is Phase.READY
    counts = dict(process._refusals._counts)
    assert counts
    damage.touch()
    probe = process.probe()
    assert (probe.phase, probe.reason) == (Phase.STARTING, "no answer: HTTP Error 500: Internal Server Error")
    assert process._refusals._counts == counts
    damage.unlink()
    assert process.probe().phase is Phase.READY
    process.stop()
    wait(process.ended)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server((HOST, 0)) as holder:
        port = holder.getsockname()[1]
        process = ServerProcess(GOLDEN, HOST, (port, 0), SETTINGS)
        process.start()
        probe = settled(process)
    assert probe.phase is Phase.FAILED
    assert f"cannot listen on {HOST}:{port}" in probe.reason


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is absent: apt-get install util-linux")
def test_it_ends_with_its_owner() -> None:
    command = [sys.executable, "-c", OWNER, str(GOLDEN)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline().split()[1])
        for line in owner.stdout:
            if "listening" in line:
                break
        owner.send_signal(signal.SIGKILL)
    wait(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    finally:
        assert pid != os.getpid()


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([{("vae", "ok"): 1}], [False]),
        ([{("vae", "invalid"): 1}], [True]),
        ([{("vae", "device_failed"): 1}, {("vae", "timed_out"): 1}], [False, False]),
        # The older version serves in its place: still refused. Later a good one comes.
        (
            [{("vae", "invalid"): 1, ("vae", "ok"): 1}] * 2 + [{("vae", "invalid"): 1, ("vae", "ok"): 2}],
            [True, True, False],
        ),
        ([{("vae", "warm_up_failed"): 1}, {("vae", "warm_up_failed"): 1, ("ae", "ok"): 1}], [True, True]),
        ([{("vae", "ok"): 1}, {("vae", "ok"): 1, ("vae", "self_test_failed"): 1}], [False, True]),
    ],
)
def test_a_refusal_lasts_until_the_model_has_loaded(
    looks: list[dict[tuple[str, str], int]], expected: list[bool]
) -> None:
    refusals = Refusals()
    lines = 'autoencoder_model_loads_total{{model="{}",result="{}"}} {}.0\n'
    assert [refusals.take("".join(lines.format(*key, look[key]) for key in look)) for look in looks] == expected
