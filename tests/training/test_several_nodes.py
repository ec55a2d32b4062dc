"""torchrun on two nodes: network namespaces with addresses of their own, joined by a cable, and a shared folder."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.test_distributed import SETTINGS as QUICK
from tests.training.test_distributed import train_with_two
from tests.training.test_train import log

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ADDRESSES = ("10.77.0.1", "10.77.0.2")
RECIPE = "fc-ae"
SETTINGS = (*QUICK, "run.epochs=30", "run.batch_size=64", "output.save_seconds=0.2")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture
def nodes() -> Iterator[list[str]]:
    """Names of two namespaces."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    names = [f"hourglass-{os.getpid()}-{side}" for side in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


class Node:
    """One node's torchrun, as docs/training.md gives it."""

    def __init__(self, name: str, address: str, out: Path, said: Path) -> None:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{ADDRESSES[0]}:29400", "--rdzv-id", "run"]
        # torchrun knows the host of its rendezvous by the machine's name, which both namespaces share.
        host = f"is_host={int(address == ADDRESSES[0])},keep_alive_interval=1"
        torchrun += ["--rdzv-conf", host, "--local-addr", address, "--max-restarts", "9"]
        options = [option for setting in SETTINGS for option in ("--set", setting)]
        command = [*torchrun, "-m", "training", RECIPE, "--out", str(out), "--resume", *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"}
        # Otherwise the first node goes on with the store of its first rendezvous, which one that joins later lacks.
        environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        self._said = said
        with said.open("a") as file:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", name, *command],
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self._said.read_text()

    def workers(self) -> list[int]:
        """Processes that train: torchrun's children."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children]

    def kill(self) -> None:
        """End everything on the node at once."""
        for worker in self.workers():
            os.kill(worker, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


def wait_for(condition: Callable[[], object], nodes: list[Node]) -> None:
    until = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < until, "\n".join(node.said() for node in nodes)
        time.sleep(0.02)


def losses(out: Path) -> list[tuple[Any, ...]]:
    return [(record["step"], record["train"], record["validation"]) for record in log(out)]


def epochs(out: Path) -> int:
    path = out / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def resumed_at(nodes: list[Node]) -> list[int]:
    return [int(step) for node in nodes for step in re.findall(r"going on after step (\d+)", node.said())]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run of two processes to which nothing happens."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    train_with_two(RECIPE, out, *(each for setting in SETTINGS for each in ("--set", setting)))
    return out


def check_same(out: Path, undisturbed: Path) -> None:
    """Losses and weights, bit for bit."""
    assert losses(out) == losses(undisturbed)
    names = ("best/model.safetensors", "latest/model.safetensors")
    assert all((out / name).read_bytes() == (undisturbed / name).read_bytes() for name in names)


def end(running: list[Node]) -> None:
    for node in running:
        if node.process.poll() is None:
            node.kill()


def test_a_worker_and_then_a_node_that_die_change_no_bit(nodes: list[str], undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    places = [(name, address, out, tmp_path / address) for name, address in zip(nodes, ADDRESSES, strict=True)]
    running = [Node(*place) for place in places]
    try:
        wait_for(lambda: epochs(out) >= 3, running)
        os.kill(running[1].workers()[0], signal.SIGKILL)
        wait_for(lambda: resumed_at(running), running)
        wait_for(lambda: epochs(out) >= 10, running)
        # A process that finds its peer gone while both begin again costs one more start.
        first = max(resumed_at(running))
        running[1].kill()
        running[1] = Node(*places[1])
        wait_for(lambda: max(resumed_at(running)) > first, running)
        for node in running:
            assert node.process.wait(240) == 0, node.said()
    finally:
        end(running)
    assert 0 < first < max(resumed_at(running)) < log(out)[-1]["step"]
    check_same(out, undisturbed)


def test_the_first_node_ends_the_run_which_goes_on_when_all_are_started_again(
    nodes: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    places = [(name, address, out, tmp_path / address) for name, address in zip(nodes, ADDRESSES, strict=True)]
    running = [Node(*place) for place in places]
    try:
        wait_for(lambda: epochs(out) >= 3, running)
        running[0].kill()
        assert running[1].process.wait(240) != 0, running[1].said()
        assert not resumed_at(running)
        running = [Node(*place) for place in places]
        for node in running:
            assert node.process.wait(240) == 0, node.said()
    finally:
        end(running)
    assert 0 < max(resumed_at(running)) < log(out)[-1]["step"]
    check_same(out, undisturbed)
