"""Several real servers without a proxy: one is killed and comes back, the other one stops."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc
from hourglass_client import AsyncClient, Client, HourglassError, InvalidArgumentError, Tls
from hourglass_client.channels import channel_settings
from hourglass_client.cli.main import main

from examples.local_server import LocalServer, running
from tests.deploy.conftest import GOLDEN, ROOT
from tests.looping_threads import LoopingThreads
from tests.server.conftest import images, pixels

FLAGS = ("--poll-seconds", "0", "--lame-duck-seconds", "1")
SECONDS = 60.0
PAGE = ROOT / "docs" / "scale-out.md"
RECONNECT = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000))
REQUEST = pb.EncodeRequest(model_name="vae", images=images(pixels(1)))


class Caller(LoopingThreads):
    """A client in a loop over all servers: blocking, asyncio, or plain gRPC with the service config of the docs."""

    def __init__(self, kind: str, addresses: str) -> None:
        self.codes: Counter[str] = Counter()
        self._addresses = addresses
        kinds = {"blocking": self._block, "asyncio": lambda: asyncio.run(self._wait()), "plain": self._plain}
        super().__init__((kinds[kind],))

    def make(self, count: int) -> None:
        """Wait until so many more calls are made."""
        until, end = self.codes.total() + count, time.monotonic() + SECONDS
        while self.codes.total() < until:
            assert time.monotonic() < end
            time.sleep(0.01)

    def reach(self, server: LocalServer) -> None:
        """Wait until a server has answered ten calls."""
        end = time.monotonic() + SECONDS
        while calls(server) < 10:
            assert time.monotonic() < end
            self.make(10)

    def _block(self) -> None:
        with Client(self._addresses) as client:
            while not self.over.is_set():
                try:
                    client.encode(pixels(1), model="vae")
                    self.codes["OK"] += 1
                except HourglassError as error:
                    self.codes[str(error)] += 1

    async def _wait(self) -> None:
        async with AsyncClient(self._addresses) as client:
            while not self.over.is_set():
                try:
                    await client.encode(pixels(1), model="vae")
                    self.codes["OK"] += 1
                except HourglassError as error:
                    self.codes[str(error)] += 1

    def _plain(self) -> None:
        config = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
        options = [("grpc.service_config", config), ("grpc.default_authority", "models"), *RECONNECT]
        with grpc.insecure_channel(f"ipv4:{self._addresses}", options) as channel:
            stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
            while not self.over.is_set():
                try:
                    stub.Encode(REQUEST, timeout=30)
                    self.codes["OK"] += 1
                except grpc.RpcError as error:
                    self.codes[str(error.details())] += 1


def calls(server: LocalServer) -> float:
    """Encode calls that a server has answered."""
    with urlopen(f"http://{server.metrics_address}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith('autoencoder_requests_total{code="OK",method="E')
    )


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("kind", ["blocking", "asyncio", "plain"])
def test_no_call_is_lost_when_a_server_is_killed_comes_back_and_the_other_stops(
    tmp_path: Path, stack: ExitStack, kind: str
) -> None:
    first_stack, second_stack = ExitStack(), stack.enter_context(ExitStack())
    first = first_stack.enter_context(running(GOLDEN, tmp_path / "first.log", *FLAGS))
    second = second_stack.enter_context(running(GOLDEN, tmp_path / "second.log", *FLAGS))
    with Caller(kind, f"{first.address},{second.address}") as caller:
        caller.reach(first)
        caller.reach(second)
        first.process.kill()
        first.process.wait()
        first_stack.pop_all()
        caller.make(100)
        # On the same port. It gets calls again without a new client.
        again = stack.enter_context(
            running(GOLDEN, tmp_path / "again.log", *FLAGS, "--port", first.address.rpartition(":")[2])
        )
        caller.reach(again)
        # It says NOT_SERVING first, and gets nothing from then on.
        second_stack.close()
        caller.make(50)
    assert caller.codes.keys() == {"OK"}, caller.codes


def test_a_name_and_a_list_of_names_are_looked_up(
    tmp_path: Path, stack: ExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    server = stack.enter_context(running(GOLDEN, tmp_path / "log", "--poll-seconds", "0"))
    port = server.address.rpartition(":")[2]
    for address in (f"dns:///localhost:{port}", f"localhost:{port},{server.address}"):
        with Client(address) as client:
            assert client.list_models()
        assert main(["models", "--address", address]) == 0
    assert "vae" in capsys.readouterr().out
    assert channel_settings(f"localhost:{port},{server.address}", None, None).target.count("127.0.0.1") == 2


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("10.0.0.1,10.0.0.2:8001", "ipv4:10.0.0.1:443,10.0.0.2:8001"),
        ("::1,[::2]", "ipv6:[::1]:443,[::2]:443"),
    ],
)
def test_with_tls_a_port_may_be_left_out_of_a_list_too(address: str, target: str) -> None:
    assert channel_settings(address, Tls(), None).target == target
    assert channel_settings("localhost,127.0.0.1", Tls(), None).target.startswith("ipv4:127.0.0.1:443,")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1,", "address: expected HOST:PORT, got an empty string"),
        ("127.0.0.1:1,127.0.0.1", "without a port: try 127.0.0.1:8001"),
        ("127.0.0.1:1,none.invalid:1", "cannot look up none.invalid, of none.invalid:1: "),
        (["127.0.0.1:1", "unix:/run/x.sock"], "got unix:/run/x.sock: give it alone"),
        ("127.0.0.1:1,[::1]:1", "must all be IPv4 or all IPv6, got 127.0.0.1:1, [::1]:1"),
        ("127.0.0.1:1,127.0.0.1:99999", "expected a port up to 65535, got 127.0.0.1:99999"),
    ],
)
def test_a_bad_address_among_several_is_one_sentence(address: str | list[str], words: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        Client(address)
    assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
