"""Replicas behind Envoy that stop, die, come, go and slow down, under load: what callers lose."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc
from hourglass_client import Client, HourglassError

from examples.local_server import LocalServer, running
from tests.deploy.conftest import GOLDEN
from tests.deploy.envoy.conftest import FLAGS
from tests.deploy.envoy.proxy import Envoy, envoy, wait_for
from tests.looping_threads import LoopingThreads
from tests.server.conftest import images, pixels, write_slow_denoiser

_LOGGER = logging.getLogger(__name__)
CALLERS = 2
REQUEST = pb.EncodeRequest(model_name="vae", images=images(pixels(2)))


class Load(LoopingThreads):
    """Callers in a loop: our client, which retries, and a naive one, which does not."""

    def __init__(self, proxy: Envoy) -> None:
        self.patient: Counter[str] = Counter()
        self.naive: Counter[str] = Counter()
        self._proxy = proxy
        super().__init__(each for each in (self._patient, self._naive) for _ in range(CALLERS))

    def wait(self, calls: int) -> None:
        """Until both kinds have made so many more calls."""
        before = self.patient.total(), self.naive.total()
        wait_for(lambda: self.patient.total() >= before[0] + calls and self.naive.total() >= before[1] + calls)

    def _patient(self) -> None:
        batch = pixels(2)
        with Client(self._proxy.address, tls=self._proxy.tls) as client:
            self._repeat(self.patient, lambda: client.encode(batch, model="vae"))

    def _naive(self) -> None:
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(self._proxy.address, self._proxy.tls.credentials(), options) as channel:
            stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
            self._repeat(self.naive, lambda: stub.Encode(REQUEST, timeout=30))

    def _repeat(self, counts: Counter[str], call: Callable[[], object]) -> None:
        while not self.over.is_set():
            try:
                call()
                counts["OK"] += 1
            except HourglassError as error:
                counts[str(error)] += 1
            except grpc.RpcError as error:
                counts[f"{error.code().name}: {error.details()}"] += 1
            time.sleep(0.002)


class Replicas:
    """Servers that come and go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stacks: dict[str, ExitStack] = {}
        self._servers: dict[str, LocalServer] = {}
        self._starts = 0

    @property
    def addresses(self) -> list[str]:
        return list(self._servers)

    def start(self) -> str:
        self._starts += 1
        stack = ExitStack()
        server = stack.enter_context(running(GOLDEN, self._folder / f"server-{self._starts}.log", *FLAGS))
        self._stacks[server.address], self._servers[server.address] = stack, server
        return server.address

    def stop(self, address: str) -> None:
        """SIGTERM; it must end with exit code 0."""
        del self._servers[address]
        self._stacks.pop(address).close()

    def kill(self, address: str) -> None:
        """SIGKILL."""
        server = self._servers.pop(address)
        server.process.kill()
        server.process.wait()
        # Its context would wait for a clean end.
        self._stacks.pop(address).pop_all()

    def end(self) -> None:
        for address in self.addresses:
            self.kill(address)


@contextmanager
def replicas(folder: Path, count: int) -> Iterator[Replicas]:
    made = Replicas(folder)
    try:
        for _ in range(count):
            made.start()
        yield made
    finally:
        made.end()


def test_neither_an_orderly_stop_nor_a_kill_loses_a_call(tmp_path: Path) -> None:
    with replicas(tmp_path, 2) as servers, envoy(tmp_path / "envoy", *servers.addresses) as proxy:
        stopped, killed = servers.addresses
        with Load(proxy) as load:
            load.wait(50)
            servers.stop(stopped)
            assert load.naive.keys() == load.patient.keys() == {"OK"}, (load.naive, load.patient)
            came = servers.start()
            proxy.route_to(killed, came)
            load.wait(50)
            servers.kill(killed)
            load.wait(200)
            proxy.route_to(came)
            load.wait(20)
        assert proxy.calls().keys() == {came}
        assert load.patient.keys() == {"OK"}, load.patient
        _LOGGER.info("naive callers: %s", load.naive)


@pytest.mark.slow
def test_rolling_restarts_and_kills_of_three_replicas_lose_nothing(tmp_path: Path) -> None:
    with replicas(tmp_path, 3) as servers, envoy(tmp_path / "envoy", *servers.addresses) as proxy:
        with Load(proxy) as load:
            for end in (servers.stop, servers.kill):
                for address in servers.addresses:
                    load.wait(100)
                    end(address)
                    servers.start()
                    proxy.route_to(*servers.addresses)
                if end == servers.stop:
                    assert load.naive.keys() == load.patient.keys() == {"OK"}, (load.naive, load.patient)
            load.wait(100)
        assert load.patient.keys() == {"OK"}, load.patient
        _LOGGER.info("our client: %s; naive callers: %s", load.patient, load.naive)


@pytest.mark.slow
def test_a_slow_replica_gets_fewer_calls(tmp_path: Path) -> None:
    with ExitStack() as stack:
        addresses: list[str] = []
        for layers in (3, 12):
            repository = tmp_path / str(layers)
            repository.mkdir()
            write_slow_denoiser(repository, layers=layers)
            server = stack.enter_context(running(repository, tmp_path / f"{layers}.log", "--poll-seconds", "0"))
            addresses.append(server.address)
        proxy = stack.enter_context(envoy(tmp_path / "envoy", *addresses))
        over = threading.Event()
        threads = [threading.Thread(target=_denoise, args=(proxy, over)) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            wait_for(lambda: proxy.stat(r"cluster\.hourglass\.lb_orca_oob\.reports_received") >= 8)
            before = proxy.calls()
            wait_for(lambda: sum(proxy.calls().values()) - sum(before.values()) > 1000)
            fast, slow = (proxy.calls()[address] - before[address] for address in addresses)
        finally:
            over.set()
            for thread in threads:
                thread.join()
    _LOGGER.info("fast %d, slow %d", fast, slow)
    assert slow * 1.3 < fast


def _denoise(proxy: Envoy, over: threading.Event) -> None:
    noisy = pixels(1, (32, 32, 1)).astype("float32") / 255
    with Client(proxy.address, tls=proxy.tls) as client:
        while not over.is_set():
            client.denoise(noisy, model="slow")
            time.sleep(0.01)
