from pathlib import Path

import pytest
from hourglass_client import Client

from examples import demo
from examples.local_server import running
from tests.server.conftest import GOLDEN


def test_a_server_on_this_machine_is_asked_without_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    # Nothing listens on this port.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with running(GOLDEN, tmp_path / "log") as server, Client(server.address) as client:
        client.sample(1, model="vae")
        assert demo.count(server.metrics_address) == {"Sample": 1}
