"""The blocking client is what the script makes of the asyncio client."""

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from autoencoder.v1.autoencoder_pb2 import DESCRIPTOR
from hourglass_client import AsyncClient, Client

FOLDER = Path(__file__).resolve().parents[2] / "client"


def check(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)


def test_committed_client_is_the_generated_one() -> None:
    done = check(FOLDER / "unasync.py")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("client.py", '"mean"', '"sample"', "client.py differs from what aio.py gives"),
        ("aio.py", '"mean"', '"sample"', "client.py differs from what aio.py gives"),
        ("async_connection.py", "await asyncio.sleep(delay)", "await asyncio.wait(delay)", "matches .*asyncio.*sleep"),
        ("async_connection.py", "import time\n", "import asyncio.a\n", "no substitution for 'import asyncio.a'"),
    ],
)
def test_check_sees_a_difference(tmp_path: Path, file: str, old: str, new: str, reason: str) -> None:
    package = tmp_path / "hourglass_client"
    package.mkdir()
    shutil.copy(FOLDER / "unasync.py", tmp_path)
    for name in ("aio.py", "async_connection.py", "client.py", "connection.py"):
        shutil.copy(FOLDER / "hourglass_client" / name, package)
    changed = (package / file).read_text()
    assert old in changed
    (package / file).write_text(changed.replace(old, new))
    done = check(tmp_path / "unasync.py")
    assert done.returncode != 0
    assert re.search(reason, done.stderr)


def public(client: type) -> dict[str, object]:
    return {name: member for name, member in vars(client).items() if not name.startswith("_")}


def test_both_clients_have_the_same_methods() -> None:
    assert public(Client).keys() == public(AsyncClient).keys()
    for name in public(Client).keys() - {"map"}:
        own, later = (inspect.signature(getattr(client, name)).parameters for client in (Client, AsyncClient))
        assert [(each.name, each.kind, each.default) for each in own.values()] == [
            (each.name, each.kind, each.default) for each in later.values()
        ]


def test_every_rpc_of_the_wire_has_a_method() -> None:
    rpcs = DESCRIPTOR.services_by_name["AutoencoderService"].methods
    snake = {"".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in rpc.name)[1:] for rpc in rpcs}
    assert snake <= public(Client).keys()
