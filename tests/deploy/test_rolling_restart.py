"""Two servers behind a real L7 balancer are replaced one after the other, under load, without a lost request."""

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc

from examples.local_server import LocalServer, running
from tests.deploy.conftest import DEPLOY, GOLDEN, component, free_port
from tests.server.conftest import images, pixels

CALLERS = 4
REQUEST = pb.EncodeRequest(model_name="vae", images=images(pixels(2)))
FLAGS = ("--lame-duck-seconds", "1.5", "--poll-seconds", "0")


@dataclass
class Load:
    """Callers in a loop until `stop`; counts the status of every call, without retries."""

    address: str
    codes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        self._lock = threading.Lock()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        with grpc.insecure_channel(self.address, options) as channel:
            encode = autoencoder_pb2_grpc.AutoencoderServiceStub(channel).Encode
            while not self.over.is_set():
                try:
                    encode(REQUEST, timeout=20, wait_for_ready=True)
                    self._note("OK", "")
                except grpc.RpcError as error:
                    self._note(error.code().name, error.details())
                time.sleep(0.002)

    def _note(self, code: str, problem: str) -> None:
        with self._lock:
            self.codes[code] += 1
            if problem:
                self.problems.append(problem)


class Pair:
    """Two servers on fixed ports; either can be replaced."""

    def __init__(self, folder: Path, transport: str) -> None:
        self._folder = folder
        self._transport = transport
        self.ports = [(free_port(), free_port()) for _ in range(2)]
        self._stacks = [ExitStack(), ExitStack()]
        self.starts = 0

    def start(self, index: int) -> LocalServer:
        self.starts += 1
        port, metrics_port = map(str, self.ports[index])
        flags = ("--port", port, "--metrics-port", metrics_port, "--transport", self._transport, *FLAGS)
        log = self._folder / f"server-{self.starts}.log"
        return self._stacks[index].enter_context(running(GOLDEN, log, *flags))

    def stop(self, index: int) -> None:
        """SIGTERM, and exit code 0 in time; `running` raises otherwise."""
        self._stacks[index].close()


@contextmanager
def balanced(pair: Pair, folder: Path) -> Iterator[str]:
    """The balancer's address."""
    program = component("haproxy")
    address = f"127.0.0.1:{free_port()}"
    (one, metrics_one), (two, metrics_two) = pair.ports
    environment = {
        "LISTEN": address,
        "SERVER_ONE": f"127.0.0.1:{one}",
        "METRICS_ONE": str(metrics_one),
        "SERVER_TWO": f"127.0.0.1:{two}",
        "METRICS_TWO": str(metrics_two),
    }
    command = [program, "-db", "-f", str(DEPLOY / "haproxy.cfg")]
    with (
        (folder / "haproxy.log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            yield address
        finally:
            process.terminate()


@pytest.mark.parametrize("transport", ["native", "grpcio"])
def test_a_rolling_restart_loses_no_request(tmp_path: Path, transport: str) -> None:
    pair = Pair(tmp_path, transport)
    with ExitStack() as stack:
        for index in range(2):
            pair.start(index)
            stack.callback(pair.stop, index)
        load = Load(stack.enter_context(balanced(pair, tmp_path)))
        stack.callback(load.stop)
        load.start()
        for index in range(2):
            time.sleep(1)
            before = load.codes.total()
            pair.stop(index)
            assert load.codes.total() > before, "the other server took over"
            pair.start(index)
        time.sleep(1)
        load.stop()
    assert pair.starts == 4
    assert set(load.codes) == {"OK"}, (
        load.codes,
        load.problems[:5],
        (tmp_path / "haproxy.log").read_text(),
    )
    assert load.codes["OK"] > 100


def test_the_balancers_settings_are_valid() -> None:
    names = ("LISTEN", "SERVER_ONE", "SERVER_TWO")
    environment = dict.fromkeys(names, "127.0.0.1:1") | {"METRICS_ONE": "2", "METRICS_TWO": "3"}
    command = [component("haproxy"), "-c", "-f", str(DEPLOY / "haproxy.cfg")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
