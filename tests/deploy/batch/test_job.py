"""Jobs that are interrupted, and jobs on a cluster."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.deploy.batch.conftest import VAE, noise, rows, table, write

pytestmark = pytest.mark.slow
WORKER = "ray::MapWorker"


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def parts(output: Path) -> dict[str, tuple[int, int]]:
    """Finished parts: name to inode and time."""
    found = {path: path.stat() for path in (output / "parts").glob("part-*")} if (output / "parts").exists() else {}
    return {path.name: (each.st_ino, each.st_mtime_ns) for path, each in found.items()}


def descendants(pid: int) -> dict[int, str]:
    """Processes below one, with their titles."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    below = {pid}
    while more := {each for each, parent in parents.items() if parent in below} - below:
        below |= more
    return {each: title(each) for each in below - {pid}}


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def images(folder: Path, count: int = 1200) -> Path:
    return write(folder, {f"{index:04}.png": data for index, data in enumerate(noise(count))})


def test_a_killed_job_goes_on_and_does_nothing_twice(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], run: Callable[..., tuple[int, str]]
) -> None:
    output = tmp_path / "out"
    arguments = ("encode", VAE, images(tmp_path / "images"), output, "--workers", 2, "--part-images", 4)
    job = start(*arguments)
    wait_for(lambda: len(parts(output)) >= 5)
    below = descendants(job.pid)
    assert any(name.startswith(WORKER) for name in below.values())
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    wait_for(lambda: not any(title(pid).startswith(WORKER) for pid in below))
    finished = parts(output)
    assert 5 <= len(finished) < 300
    code, said = run(*arguments)
    assert (code, f"{len(finished) * 4} of 1200 images are done already" in said) == (0, True), said
    assert finished.items() <= parts(output).items()
    assert len(rows(output)) == 1200


def test_a_killed_worker_costs_its_part_alone(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    output = tmp_path / "out"
    job = start("encode", VAE, images(tmp_path / "images"), output, "--workers", 2, "--part-images", 4)
    wait_for(lambda: len(parts(output)) >= 5)
    os.kill(next(pid for pid, name in descendants(job.pid).items() if name.startswith(WORKER)), signal.SIGKILL)
    finished = parts(output)
    said, problems = job.communicate(timeout=240)
    assert job.returncode == 0, said + problems
    assert finished.items() <= parts(output).items()
    assert len(rows(output)) == 1200


def test_a_worker_that_cannot_write_ends_the_job_with_its_reason(
    tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    write(tmp_path / "out", {"parts": b"no folder"})
    code, said = run("encode", VAE, images(tmp_path / "images", 8), tmp_path / "out", "--workers", 1)
    assert (code, "File exists" in said, "start the job again" in said) == (2, True, True), said
    assert "Traceback" not in said


def test_a_table_with_failures_and_rows_that_come_later(tmp_path: Path, run: Callable[..., tuple[int, str]]) -> None:
    files = noise(50)
    files[7] = b"no image"
    table(tmp_path / "in" / "x.parquet", {"picture": files, "key": [f"k{index}" for index in range(50)]}, group=20)
    arguments = ["reconstruct", VAE, tmp_path / "in", tmp_path / "out", "--workers", 1, "--id-column", "key"]
    code, said = run(*arguments)
    assert (code, "x.parquet: expected a binary column 'image' with image files, got picture" in said) == (2, True), (
        said
    )
    arguments += ["--image-column", "picture"]
    code, said = run(*arguments)
    assert (code, "1 of them with an `error`" in said, "k7: expected a PNG" in said) == (1, True, True), said
    table(tmp_path / "in" / "y.parquet", {"picture": noise(5, seed=1), "key": [f"y{index}" for index in range(5)]})
    code, said = run(*arguments)
    assert (code, "50 of 55 images are done already" in said) == (1, True), said
    assert [*rows(tmp_path / "out")] == [*(f"k{index}" for index in range(50)), *(f"y{index}" for index in range(5))]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Ray cluster of one node with two cores; its address."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--head", "--block", "--port=0", "--num-cpus=2", "--include-dashboard=false"]
    command += ["--object-store-memory=100000000", "--disable-usage-stats"]
    said = tmp_path / "ray.log"
    # Its nodes know nothing of this source tree.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with said.open("w") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(lambda: "--address='" in said.read_text() or process.poll() is not None)
        yield said.read_text().split("--address='")[1].split("'")[0]
    finally:
        for pid in [*descendants(process.pid), process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


HOLD = """
import ray, sys, time
ray.init(address=sys.argv[1], log_to_driver=False)
@ray.remote(num_cpus=2)
class Waits:
    def ready(self): return 1
holder = Waits.remote()
ray.get(holder.ready.remote())
print("holds", flush=True)
time.sleep(600)
"""


def test_runs_on_a_cluster_and_says_when_its_cores_are_taken(
    tmp_path: Path, cluster: str, run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("encode", VAE, images(tmp_path / "images", 40), tmp_path / "out", "--address", cluster)
    command = [sys.executable, "-c", HOLD, cluster]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as holder:
        assert holder.stdout.readline() == "holds\n"
        code, said = run(*arguments)
        assert (code, "expected at most the 0 of 2 cores of the cluster that are free, got 1" in said) == (2, True), (
            said
        )
        holder.kill()
    code, said = run(*arguments)
    assert code == 0, said
    assert len(rows(tmp_path / "out")) == 40
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    code, said = run(*arguments[:3], tmp_path / "other", *arguments[4:])
    assert (code, "Authentication token is missing or incorrect" in said) == (2, True), said


def test_says_where_no_cluster_is(tmp_path: Path, run: Callable[..., tuple[int, str]]) -> None:
    code, said = run("encode", VAE, images(tmp_path / "images", 2), tmp_path / "out", "--address", "127.0.0.1:1")
    assert (code, "expected a Ray cluster at 127.0.0.1:1" in said) == (2, True), said
