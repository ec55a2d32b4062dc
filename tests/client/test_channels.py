import shutil
import socket
import subprocess
import threading
from functools import partial

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from hourglass_client import CancelledError, Client, InvalidArgumentError, Tls, UnavailableError
from hourglass_client.channels import channel_settings

from tests.client.conftest import Start


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("localhost:8001", "localhost:8001"),
        (["models.example:8001"], "models.example:8001"),
        (["10.0.0.1:1", "10.0.0.2:2"], "ipv4:10.0.0.1:1,10.0.0.2:2"),
        (["[::1]:1", "[::2]:2"], "ipv6:[::1]:1,[::2]:2"),
    ],
)
def test_target(address: str | list[str], target: str) -> None:
    assert channel_settings(address, None, None).target == target


@pytest.mark.parametrize(
    "addresses",
    [
        [],
        ["a.invalid:1", "127.0.0.1:2"],
        ["unix:/run/x.sock", "127.0.0.1:1"],
        ["10.0.0.1:1", "[::1]:1"],
        "http://127.0.0.1:8001",
    ],
    ids=str,
)
def test_unusable_addresses_are_refused(addresses: str | list[str]) -> None:
    with pytest.raises(InvalidArgumentError, match="address"):
        Client(addresses)


HERE = [
    "127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/run/hourglass.sock",
    "dns:///localhost:80", "dns:localhost:80", "ipv4:127.0.0.1:80", "ipv6:[::1]:80",
]  # fmt: skip


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1:1",
        "[fe80::1]:1",
        "dns:///models.example:80",
        "dns://127.0.0.1/models.example:1",
        "localhost.example:1",
    ],
)
def test_token_is_not_sent_elsewhere_without_tls(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match="TLS"):
        channel_settings(address, None, "secret")


@pytest.mark.parametrize("address", HERE)
def test_token_is_sent_without_tls_on_this_machine_only(address: str) -> None:
    assert channel_settings(address, None, "secret").metadata == (("authorization", "Bearer secret"),)
    with pytest.raises(InvalidArgumentError, match="TLS"):
        channel_settings([address, "10.0.0.1:1"], None, "secret")


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("models.example", "try models.example:8001"),
        ("models.example:", "try models.example:8001"),
        ("127.0.0.1", "try 127.0.0.1:8001"),
        ("::1", r"try \[::1\]:8001"),
        ("[::1]", r"try \[::1\]:8001"),
        ("dns:///models.example", "try models.example:8001"),
        ("ipv4:10.0.0.1:1,10.0.0.2", "try 10.0.0.2:8001"),
        (["10.0.0.1:1", "10.0.0.2"], "try 10.0.0.2:8001"),
    ],
)
def test_an_address_without_a_port_is_refused_except_with_tls(address: str | list[str], advice: str) -> None:
    """gRPC takes 443 for it, where no server speaks without TLS."""
    with pytest.raises(InvalidArgumentError, match=f"address: expected HOST:PORT, got .* without a port: {advice}$"):
        Client(address)
    if isinstance(address, str):
        assert channel_settings(address, Tls(), None).target == address


def test_addresses_that_have_no_port_or_a_named_one_are_taken() -> None:
    for address in ("unix:/run/hourglass.sock", "unix-abstract:name", "vsock:1:2", "xds:///models", "localhost:http"):
        assert channel_settings(address, None, None).target == address


@pytest.mark.parametrize("address", [None, 8001, ["127.0.0.1:1", 2]])
def test_an_address_that_is_no_text_is_refused(address: object) -> None:
    with pytest.raises(InvalidArgumentError, match="address: expected HOST:PORT"):
        Client(address)


def test_a_token_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="token: expected a string, got bytes"):
        Client("127.0.0.1:1", token=b"abc")


@pytest.mark.parametrize(
    "token",
    ["secret\n", "secret\r\n", " secret", "\ufeffsecret", "se cret", "s\u00e9cret", "\x00", "inference secret", ""],
)
def test_token_that_cannot_be_sent_is_refused_before_any_call(token: str) -> None:
    with pytest.raises(InvalidArgumentError, match="token: expected") as caught:
        Client("127.0.0.1:1", token=token)
    assert "cret" not in str(caught.value)


def test_token_reaches_the_server(start: Start) -> None:
    server = start()
    with Client(server.address, token="secret") as client:  # noqa: S106 (not a real one)
        client.get_model()
    assert server.metadata["authorization"] == "Bearer secret"


def with_health(server: grpc.Server, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
    health = HealthServicer()
    health.set("", status)
    add_HealthServicer_to_server(health, server)


def test_several_servers_share_the_load_and_an_unhealthy_one_gets_none(start: Start) -> None:
    states = health_pb2.HealthCheckResponse
    first, second = (start(also=partial(with_health, status=states.SERVING)) for _ in range(2))
    unhealthy = start(also=partial(with_health, status=states.NOT_SERVING))
    with Client([first.address, unhealthy.address, second.address]) as client:
        for _ in range(40):
            client.get_model()
    assert first.calls + second.calls == 40
    assert min(first.calls, second.calls) >= 10
    assert unhealthy.calls == 0


def test_attempts_to_connect_stay_close_together() -> None:
    """gRPC's own backoff needs 16 s for six of them."""
    with socket.create_server(("127.0.0.1", 0)) as listener, Client(f"127.0.0.1:{listener.getsockname()[1]}") as client:
        listener.settimeout(10)
        caller = threading.Thread(target=call_until_closed, args=(client,))
        caller.start()
        try:
            for _ in range(6):
                # Accepted and closed: a failed attempt.
                listener.accept()[0].close()
        finally:
            client.close()
            caller.join()


@pytest.mark.slow
def test_a_host_name_is_looked_up_again_soon() -> None:
    """gRPC itself does so every 30 s."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as names:
        names.bind(("127.0.0.1", 0))
        names.settimeout(20)
        # The port is closed: each attempt to connect fails.
        client = Client(f"dns://127.0.0.1:{names.getsockname()[1]}/models.example:1")
        caller = threading.Thread(target=call_until_closed, args=(client,))
        caller.start()
        try:
            for _ in range(3):
                answer_dns(names)
        finally:
            client.close()
            caller.join()


def answer_dns(names: socket.socket) -> None:
    """Answer queries up to one for an IPv4 address: 127.0.0.1, valid for a second (RFC 1035, section 4)."""
    address_wanted = False
    while not address_wanted:
        query, sender = names.recvfrom(512)
        question = query[12 : query.index(0, 12) + 5]
        address_wanted = question[-4:-2] == b"\0\1"
        header = query[:2] + bytes([0x81, 0x80, 0, 1, 0, int(address_wanted), 0, 0, 0, 0])
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1" if address_wanted else b""
        names.sendto(header + question + answer, sender)


def call_until_closed(client: Client) -> None:
    while True:
        try:
            client.get_model()
        except UnavailableError:
            continue
        except CancelledError:
            return


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """Key and self-signed certificate of "models.example"."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl is absent: apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    key, chain = folder / "key.pem", folder / "chain.pem"
    name = ["-subj", "/CN=models.example", "-addext", "subjectAltName=DNS:models.example"]
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = [openssl, "req", "-x509", *made, *name, "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    return key.read_bytes(), chain.read_bytes()


def test_tls_with_a_name_of_its_own(start: Start, certificate: tuple[bytes, bytes]) -> None:
    server = start(credentials=grpc.ssl_server_credentials([certificate]))
    tls = Tls(root_certificates=certificate[1], server_name="models.example")
    with Client(server.address, tls=tls, token="secret") as client:  # noqa: S106 (not a real one)
        client.get_model()
    assert server.metadata["authorization"] == "Bearer secret"


def test_tls_rejects_another_server_name(start: Start, certificate: tuple[bytes, bytes]) -> None:
    server = start(credentials=grpc.ssl_server_credentials([certificate]))
    with (
        Client(server.address, tls=Tls(root_certificates=certificate[1]), timeout_seconds=5) as client,
        pytest.raises(UnavailableError),
    ):
        client.get_model()
    assert server.calls == 0
