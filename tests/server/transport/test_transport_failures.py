"""Unexpected errors on a transport's only thread."""

import time
from pathlib import Path

import pytest
from autoencoder.v1 import autoencoder_pb2 as pb

from server.transport import BindError
from tests.server.conftest import GOLDEN, copy_version, images, pixels, serving
from tests.server.models.test_manager import eventually, version


class Accident:
    """Quick work with an unexpected error."""

    def __init__(self) -> None:
        self.happened = False

    def run_once(self) -> None:
        self.happened = True
        raise RuntimeError("an accident")


def test_an_accident_in_a_round_ends_nothing(
    repository: Path, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    copy_version(repository, "fc-ae", 1)
    with serving(repository, transport=transport, poll_seconds=0) as served:
        for _ in range(3):
            accident = Accident()
            served.app._executor.add_ready(accident)
            assert version(served) == "1"
            eventually(lambda accident=accident: accident.happened)
        assert version(served) == "1"
    assert "an accident" in caplog.text


def test_missing_folder_for_the_socket_is_reported(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container whose file system is read-only has none unless it is given one."""
    monkeypatch.setattr("tempfile.tempdir", "/proc/none")
    with (
        pytest.raises(BindError, match="expected a writable directory for a socket in TMPDIR or /tmp"),
        serving(repository),
    ):
        pass


def test_streams_of_the_native_transport_outlast_limits_on_connections() -> None:
    """The connection behind it serves all callers; those limits are for connections of one."""
    limits = {"max_connection_age_seconds": 0.2, "max_connection_idle_seconds": 0.2}
    item = pb.StreamRequest(encode=pb.EncodeRequest(model_name="vae", images=images(pixels(1))))
    with serving(GOLDEN, transport="native", **limits) as served:
        for _ in range(3):
            assert len(list(served.stub.Stream(iter([item] * 3), timeout=20))) == 3
            time.sleep(0.5)
