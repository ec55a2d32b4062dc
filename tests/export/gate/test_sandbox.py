import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from bundle import layout
from bundle.errors import BundleError
from export.errors import Failure, GateError
from export.gate.sandbox import CrashError, Sandbox

ROOT = Path(__file__).resolve().parents[3]
# Prints the process id of its sandbox, and waits for it.
PROGRAM = """
import os, time
from export.gate.sandbox import Sandbox
if __name__ == "__main__":
    with Sandbox() as sandbox:
        print(sandbox.run(os.getpid), flush=True)
        sandbox.run(time.sleep, 600)
"""

# Interrupts itself and its sandbox as soon as there is one.
INTERRUPTED = """
import os, signal, threading, time
from pathlib import Path
from export.gate.sandbox import Sandbox

def interrupt():
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while not children.read_text():
        pass
    os.killpg(0, signal.SIGINT)

if __name__ == "__main__":
    threading.Thread(target=interrupt).start()
    with Sandbox() as sandbox:
        sandbox.run(time.sleep, 600)
"""


def program(folder: Path, text: str) -> subprocess.Popen[str]:
    """A process in a group of its own whose temporary files go to `folder`."""
    (folder / "program.py").write_text(text)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}", "TMPDIR": str(folder)}
    command = [sys.executable, str(folder / "program.py")]
    return subprocess.Popen(
        command, env=environment, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def start(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """A process that waits for its sandbox, and the process id of that."""
    process = program(folder, PROGRAM)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def wait_gone(pid: int) -> None:
    """Wait until no such process runs; a test that waits in vain ends by its time limit."""
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        # There may be no parent to collect it.
        if state == "Z":
            return
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_when_its_starter_is_killed(number: signal.Signals, tmp_path: Path) -> None:
    process, child = start(tmp_path)
    process.send_signal(number)
    _, err = process.communicate()
    assert err == ""
    assert process.returncode == -number
    wait_gone(child)
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


def test_ctrl_c_ends_both_and_is_printed_once(tmp_path: Path) -> None:
    process, child = start(tmp_path)
    # As a terminal does it: to the whole group.
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert err.count("Traceback") == 1
    assert err.strip().endswith("KeyboardInterrupt")
    wait_gone(child)
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


def test_ctrl_c_while_it_starts_is_printed_once(tmp_path: Path) -> None:
    _, err = program(tmp_path, INTERRUPTED).communicate()
    assert err.count("Traceback") == 1
    assert err.strip().endswith("KeyboardInterrupt")
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


def test_an_error_does_not_wait_for_what_runs_in_the_sandbox() -> None:
    def fail() -> None:
        with Sandbox() as sandbox:
            sandbox.begin(time.sleep, 600)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_its_temporary_files_go_with_it() -> None:
    with Sandbox() as sandbox:
        folder = Path(sandbox.run(tempfile.mkdtemp))
        assert folder.is_dir()
    assert not folder.exists()


def test_after_a_crash_the_next_call_has_a_new_process() -> None:
    with Sandbox() as sandbox:
        before = sandbox.run(os.getpid)
        with pytest.raises(CrashError, match="the process that ran abort died"):
            sandbox.run(os.abort)
        assert sandbox.run(os.getpid) not in {before, os.getpid()}


def test_errors_come_back_as_they_were_raised() -> None:
    with Sandbox() as sandbox, pytest.raises(BundleError, match="expected a readable file") as refusal:
        sandbox.run(layout.read_model, Path("/nowhere"))
    assert "in read_model" in refusal.value.__notes__[0]
    sent = GateError("numbers", [Failure("encode", "zeros", "off by 1")])
    got = pickle.loads(pickle.dumps(sent))  # noqa: S301
    assert (str(got), got.check, got.failures) == (str(sent), sent.check, sent.failures)


def test_what_cannot_be_sent_is_an_error_and_the_sandbox_goes_on() -> None:
    with Sandbox() as sandbox:
        with pytest.raises(TypeError, match="pickle"):
            sandbox.run(threading.Lock)
        assert sandbox.run(os.getpid) != os.getpid()
