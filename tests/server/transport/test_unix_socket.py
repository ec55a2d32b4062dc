"""Unix sockets: served on both transports, replaced when stale, removed at the end."""

import os
import socket
import time
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from server.transport import BindError
from tests.server.conftest import GOLDEN, images, pixels, serving


def test_a_unix_socket_is_served_and_removed(tmp_path: Path, transport: str) -> None:
    path = tmp_path / "h.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with serving(GOLDEN, transport=transport, host=f"unix://{path}", poll_seconds=0) as served:
        assert served.address == f"unix:{path}"
        assert served.metrics_address.startswith("127.0.0.1:")
        request = pb.EncodeRequest(model_name="vae", images=images(pixels(1)))
        assert served.stub.Encode(request, timeout=20).info.model_name == "vae"
        assert list(served.stub.Stream(iter([pb.StreamRequest(encode=request)]), timeout=20))
        assert HealthStub(served.channel).Check(HealthCheckRequest(), timeout=20).status == 1
        with (
            pytest.raises(BindError, match="another server does"),
            serving(GOLDEN, transport=transport, host=f"unix:{path}", poll_seconds=0),
        ):
            pass
        assert served.stub.Encode(request, timeout=20).info.model_name == "vae"
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [("file", "exists and is not a socket"), ("none/h.sock", "is not a directory"), ("x" * 120, "at most 103 bytes")],
)
def test_a_path_that_cannot_be_a_socket_is_refused(tmp_path: Path, transport: str, name: str, words: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BindError, match=words), serving(GOLDEN, transport=transport, host=f"unix:{tmp_path / name}"):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_brackets_are_taken_off(transport: str) -> None:
    with serving(GOLDEN, transport=transport, host="[::1]", poll_seconds=0) as served:
        assert served.address.startswith("[::1]:")
        with grpc.insecure_channel(served.address) as channel:
            stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
            assert stub.ListModels(pb.ListModelsRequest(), timeout=20).models


def test_folders_of_killed_servers_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    old, new = tmp_path / "hourglass-old", tmp_path / "hourglass-new"
    for folder in (old, new):
        folder.mkdir()
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(folder / "grpc.sock"))
    os.utime(old / "grpc.sock", (time.time() - 60, time.time() - 60))
    with serving(GOLDEN, transport="native", poll_seconds=0):
        assert not old.exists()
        assert new.exists()
        assert len(list(tmp_path.glob("hourglass-*"))) == 2
