import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.batch.errors import InputError
from deploy.batch.storage import Store
from tests.deploy.conftest import free_port


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """On a disk, and as a bucket."""
    return Store(str(tmp_path / "out") if request.param == "disk" else f"memory://{tmp_path}")


def test_writes_and_finds(store: Store) -> None:
    assert store.find() == {}
    assert store.read("a/b") is None
    store.write("a/b", b"12")
    store.write("a/b", b"123")
    store.write("c", b"")
    assert store.find() == {"a/b": 3, "c": 0}
    assert (store.read("a/b"), store.exists("a/b"), store.exists("d")) == (b"123", True, False)
    store.remove("a")
    store.remove("a")
    assert store.find() == {"c": 0}


def test_a_file_that_is_larger_than_it_may_be_is_refused(store: Store) -> None:
    store.write("a", b"123")
    assert (store.read_limited("a", 3), store.read_limited("b", 3)) == (b"123", None)
    with pytest.raises(InputError, match="a: expected at most 2 bytes, got more"):
        store.read_limited("a", 2)


class Refusing(BaseHTTPRequestHandler):
    """Answers with the status that is the path."""

    def do_HEAD(self) -> None:
        self.send_error(int(self.path.strip("/")))

    do_GET = do_HEAD  # noqa: N815 (the library's name)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's name)
        pass


@pytest.fixture
def refusing() -> Iterator[Store]:
    """Files of a web server, by the status that it answers with."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Store(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_a_file_is_absent_only_where_a_web_server_says_so(refusing: Store) -> None:
    assert refusing.read_limited("404", 3) is None
    for status in ("403", "500"):
        with pytest.raises(InputError, match=f"{status}: Client.*: {status}, message="):
            refusing.read_limited(status, 3)


def test_a_web_server_that_cannot_be_reached_is_no_absent_file() -> None:
    with pytest.raises(InputError, match=r"file: Client.*: Cannot connect to host"):
        Store(f"http://127.0.0.1:{free_port()}").read_limited("file", 3)


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    store.write("a", b"before")

    def fail(_: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        store.write("a", b"after")
    assert store.read("a") == b"before"


@pytest.mark.parametrize("url", ["nothing://x", "s3://bucket/folder"])
def test_an_unknown_protocol_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="expected a folder or a URL that fsspec can open"):
        Store(url)
