"""Connections to the grpcio transport: given to core as fast as calls are taken, in turns, within the limits."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb

from server.transport.connections.acceptor import Acceptor
from server.transport.connections.begun_calls import BegunCalls
from server.transport.connections.external import ExternalListener
from server.transport.connections.listeners import listen
from server.transport.connections.open_connections import OpenConnections
from server.transport.connections.probe import Probe
from tests.server.conftest import GOLDEN, serving
from tests.server.models.test_manager import eventually
from tests.server.raw_http2 import END_HEADERS, HEADERS, PREFACE, SETTINGS, RawConnection, frame, header_block


class Core:
    """Takes the connections that grpc would be given."""

    def __init__(self) -> None:
        self.given: list[socket.socket] = []
        self.probes: list[socket.socket] = []
        self.begun = BegunCalls()

    def give(self, number: int) -> None:
        self.given.append(socket.socket(fileno=number))

    def probe(self, number: int) -> None:
        self.probes.append(socket.socket(fileno=number))


@contextmanager
def accepting(core: Core, most: int = 1000) -> Iterator[tuple[Acceptor, tuple[str, int]]]:
    listeners = listen("127.0.0.1", 0)
    address = listeners[0].getsockname()
    acceptor = Acceptor(listeners, core.give, OpenConnections(most, most), Probe(core.probe), core.begun)
    acceptor.start()
    try:
        yield acceptor, address
    finally:
        acceptor.close()
        for connection in (*core.given, *core.probes):
            connection.close()


def connect(address: tuple[str, int], source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(address, 20, (source, 0))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No probe counts as late, however busy the machine is."""
    monkeypatch.setattr("server.transport.connections.acceptor._BEHIND_SECONDS", 60)


@pytest.mark.usefixtures("patient")
def test_the_next_connections_wait_for_the_probe() -> None:
    core = Core()
    with ExitStack() as stack, accepting(core) as (acceptor, address):
        for _ in range(10):
            stack.enter_context(connect(address))
        eventually(lambda: len(core.given) == 4)
        acceptor.came_through()
        # At most four at a time: the first probe may follow fewer than those that it has let in.
        eventually(lambda: len(core.probes) == 2)
        assert 4 < len(core.given) <= 8
        assert core.probes[0].recv(100).startswith(b"PRI * HTTP/2.0")


def test_connections_whose_client_has_gone_are_not_given() -> None:
    core = Core()
    with ExitStack() as stack, accepting(core) as (acceptor, address):
        for _ in range(4):
            stack.enter_context(connect(address))
        eventually(lambda: len(core.given) == 4)
        for _ in range(20):
            connect(address).close()
        last = stack.enter_context(connect(address))
        eventually(lambda: len(acceptor._turns) == 21)
        acceptor.came_through()
        eventually(lambda: len(core.given) == 5)
        assert core.given[4].getpeername() == last.getsockname()


@pytest.mark.usefixtures("patient")
def test_addresses_take_turns() -> None:
    core = Core()
    with ExitStack() as stack, accepting(core) as (acceptor, address):
        for _ in range(30):
            stack.enter_context(connect(address))
        eventually(lambda: len(acceptor._turns) == 26)
        other = stack.enter_context(connect(address, "127.0.0.2"))
        eventually(lambda: len(acceptor._turns) == 27)
        eventually(lambda: acceptor.came_through() or len(core.given) >= 8)
        assert other.getsockname() in [connection.getpeername() for connection in core.given[:6]]


def test_a_server_that_is_behind_closes_what_one_address_has_too_many_of() -> None:
    core = Core()
    with ExitStack() as stack, accepting(core) as (acceptor, address):
        many = [stack.enter_context(connect(address)) for _ in range(320)]
        # The probe takes long, so that connections of other addresses are looked for.
        other = stack.enter_context(connect(address, "127.0.0.2"))
        eventually(lambda: acceptor._turns.of("127.0.0.2"))
        assert many[-1].recv(1) == b""
        acceptor.came_through()
        eventually(lambda: other.getsockname() in [connection.getpeername() for connection in core.given])


def test_a_caller_whose_connections_took_long_is_served_one_at_a_time_after_the_others() -> None:
    core = Core()
    with ExitStack() as stack, accepting(core) as (acceptor, address):
        stack.enter_context(connect(address))
        eventually(lambda: core.probes)
        for _ in range(9):
            stack.enter_context(connect(address))
        eventually(lambda: len(acceptor._turns) == 6)
        eventually(acceptor._behind)
        acceptor.came_through()
        # It follows the three that were given after the first one.
        eventually(lambda: len(core.probes) == 2)
        assert len(core.given) == 4
        acceptor.came_through()
        eventually(lambda: len(core.probes) == 3)
        assert len(core.given) == 5
        # Given at once, though the probe is not back: its calls come after those before it anyway.
        others = [stack.enter_context(connect(address, "127.0.0.2")) for _ in range(3)]
        eventually(lambda: len(core.given) == 8)
        assert {other.getsockname() for other in others} == {one.getpeername() for one in core.given[5:]}
        acceptor.came_through()
        eventually(lambda: len(core.probes) == 4)
        assert len(core.given) == 8
        acceptor.came_through()
        eventually(lambda: len(core.given) == 9)


def test_who_makes_the_calls_is_charged_and_not_who_connects_more_often() -> None:
    core = Core()
    with ExitStack() as stack, accepting(core) as (acceptor, address):
        stranger = stack.enter_context(connect(address, "127.0.0.2"))
        for _ in range(3):
            stack.enter_context(connect(address))
        eventually(lambda: len(core.given) == 4)
        eventually(acceptor._behind)
        for _ in range(1000):
            core.begun.add(f"ipv4:127.0.0.2:{stranger.getsockname()[1]}")
        acceptor.came_through()
        eventually(lambda: acceptor._turns.charge("127.0.0.2"))
        assert not acceptor._turns.charge("127.0.0.1")


@pytest.mark.usefixtures("patient")
def test_who_makes_more_calls_than_any_client_before_it_is_served_is_charged_then_closed() -> None:
    core = Core()
    block = header_block("/x")

    def begin(calls: int) -> socket.socket:
        connection = stack.enter_context(connect(address))
        frames = (frame(HEADERS, END_HEADERS, 2 * call + 1, block) for call in range(calls))
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0) + b"".join(frames))
        return connection

    with ExitStack() as stack, accepting(core) as (acceptor, address):
        for _ in range(4):
            stack.enter_context(connect(address))
        eventually(lambda: len(core.given) == 4)
        assert not acceptor._turns.charge("127.0.0.1")
        first, second, third = begin(101), begin(101), begin(100)
        eventually(lambda: len(acceptor._turns) == 3)
        eventually(lambda: acceptor.came_through() or len(core.given) == 6)
        assert acceptor._turns.charge("127.0.0.1")
        assert [one.getpeername() for one in core.given[4:]] == [first.getsockname(), third.getsockname()]
        with suppress(ConnectionResetError):
            assert second.recv(1) == b""


def test_an_error_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    core = Core()
    failures = [OSError("accident")]

    def give(number: int) -> None:
        if failures:
            socket.socket(fileno=number).close()
            raise failures.pop()
        Core.give(core, number)

    core.give = give
    with accepting(core) as (_, address), connect(address), connect(address):
        eventually(lambda: core.given)
    assert "accident" in caplog.text


def test_a_class_that_is_not_known_is_not_called() -> None:
    assert not ExternalListener("x").usable()


def test_one_address_leaves_room_for_others() -> None:
    """Idle connections up to the limit must not keep probes and other callers out."""
    with ExitStack() as stack, serving(GOLDEN, transport="grpcio", max_connections=8, poll_seconds=0) as served:
        host, _, port = served.address.rpartition(":")
        idle = [stack.enter_context(RawConnection(served.address)) for _ in range(10)]
        eventually(lambda: sum(not connection.closed(0.02) for connection in idle) <= 6)
        with socket.create_connection((host, int(port)), 20, ("127.0.0.2", 0)) as other:
            other.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            # The settings of a server that takes it.
            assert other.recv(9)[3] == 4


def test_many_connections_at_once_are_all_served() -> None:
    """A fleet that reconnects is not a flood."""
    with serving(GOLDEN, transport="grpcio", poll_seconds=0) as served:
        failures: list[grpc.RpcError] = []

        def call() -> None:
            with grpc.insecure_channel(served.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                path = "/autoencoder.v1.AutoencoderService/ListModels"
                try:
                    channel.unary_unary(path)(pb.ListModelsRequest().SerializeToString(), timeout=60)
                except grpc.RpcError as error:
                    failures.append(error)

        threads = [threading.Thread(target=call) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
