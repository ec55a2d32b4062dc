"""TLS with real servers and handshakes."""

import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc

from server.transport.tls import Certificates, TlsError
from tests.server.conftest import GOLDEN, Served, serving
from tests.server.models.test_manager import eventually
from tests.server.pki import Authority, Identity


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def secure(authority: Authority, tmp_path: Path) -> Iterator[Served]:
    certificate, key = authority.issue().write(tmp_path)
    with serving(GOLDEN, tls_certificate=certificate, tls_key=key) as served:
        yield served


def models(address: str, credentials: grpc.ChannelCredentials | None) -> int:
    """Models listed over a connection of its own."""
    # Channels with equal arguments would share connections.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = (
        grpc.insecure_channel(address, options)
        if credentials is None
        else grpc.secure_channel(address, credentials, options)
    )
    with channel:
        stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
        return len(stub.ListModels(pb.ListModelsRequest(), timeout=10).models)


def unreachable(address: str, credentials: grpc.ChannelCredentials | None) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        models(address, credentials)
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


def shown(address: str) -> bytes:
    """The certificate that a new connection is shown."""
    host, port = address.split(":")
    context = ssl._create_unverified_context()  # noqa: S323 (it is the certificate that is looked at)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(binary_form=True)).encode()


def same(left: bytes, right: bytes) -> bool:
    return ssl.PEM_cert_to_DER_cert(left.decode()) == ssl.PEM_cert_to_DER_cert(right.decode())


def test_serves_over_tls_alone(secure: Served, authority: Authority) -> None:
    assert models(secure.address, grpc.ssl_channel_credentials(authority.certificate)) == 4
    unreachable(secure.address, None)
    unreachable(secure.address, grpc.ssl_channel_credentials(Authority().certificate))


def test_a_replaced_certificate_serves_the_next_connection(
    secure: Served, authority: Authority, tmp_path: Path
) -> None:
    old = (tmp_path / "server.crt").read_bytes()
    assert same(shown(secure.address), old)
    new = authority.issue()
    new.write(tmp_path)
    assert same(shown(secure.address), new.certificate)
    assert not same(new.certificate, old)
    assert models(secure.address, grpc.ssl_channel_credentials(authority.certificate)) == 4


def test_every_port_shows_a_replaced_certificate(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each by itself, whichever is called first, SIGHUP or not."""
    caplog.set_level("INFO", "server")
    certificate, key = authority.issue().write(tmp_path)
    with serving(GOLDEN, tls_certificate=certificate, tls_key=key, admin_port=0, rest_port=0) as served:
        admin = re.search(r"admin port: listening on (\S+)", caplog.text)[1]
        ports = [served.address, admin, f"127.0.0.1:{served.app.rest_port}"]
        for reload in (lambda: None, served.app.reload):
            new = authority.issue()
            new.write(tmp_path)
            reload()
            for port in ports:
                eventually(lambda port=port, new=new: same(shown(port), new.certificate))
            ports.reverse()


@pytest.mark.parametrize("broken", ["half written", "key of another", "gone"])
def test_a_broken_replacement_changes_nothing_and_a_whole_one_does(
    secure: Served, authority: Authority, tmp_path: Path, broken: str
) -> None:
    old = (tmp_path / "server.crt").read_bytes()
    new = authority.issue()
    if broken == "gone":
        (tmp_path / "server.crt").unlink()
    else:
        (tmp_path / "server.crt").write_bytes(new.certificate[:100] if broken == "half written" else new.certificate)
    assert same(shown(secure.address), old)
    new.write(tmp_path)
    assert same(shown(secure.address), new.certificate)


def test_established_connections_outlive_a_rotation(secure: Served, authority: Authority, tmp_path: Path) -> None:
    with grpc.secure_channel(secure.address, grpc.ssl_channel_credentials(authority.certificate)) as channel:
        stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
        stub.ListModels(pb.ListModelsRequest(), timeout=10)
        authority.issue().write(tmp_path)
        assert same(shown(secure.address), (tmp_path / "server.crt").read_bytes())
        assert stub.ListModels(pb.ListModelsRequest(), timeout=10).models


def test_mutual_tls_lets_known_clients_in_alone(authority: Authority, tmp_path: Path) -> None:
    clients = Authority("clients")
    certificate, key = authority.issue().write(tmp_path)
    (tmp_path / "clients.crt").write_bytes(clients.certificate)

    def presenting(identity: Identity | None) -> grpc.ChannelCredentials:
        pair = (None, None) if identity is None else (identity.key, identity.certificate)
        return grpc.ssl_channel_credentials(authority.certificate, *pair)

    files = {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": tmp_path / "clients.crt"}
    with serving(GOLDEN, **files) as served:
        assert models(served.address, presenting(clients.issue("caller"))) == 4
        unreachable(served.address, presenting(None))
        unreachable(served.address, presenting(authority.issue("caller")))


@pytest.mark.parametrize("broken", ["certificate", "key", "client_ca", "encrypted", "pair"])
def test_unusable_files_are_reported_at_start(authority: Authority, tmp_path: Path, broken: str) -> None:
    certificate, key = authority.issue().write(tmp_path)
    client_ca = tmp_path / "ca.crt"
    client_ca.write_bytes(authority.certificate)
    if broken == "encrypted":
        key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    elif broken == "pair":
        key.write_bytes(authority.issue().key)
    else:
        {"certificate": certificate, "key": key, "client_ca": client_ca}[broken].write_text("nothing of the kind")
    with pytest.raises(TlsError, match="TLS from"):
        Certificates(certificate, key, client_ca).credentials()
