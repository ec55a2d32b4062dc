import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fsspec.exceptions import FSTimeoutError

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
    with pytest.raises(InputError, match=r"a: expected at most 2 bytes, got (more|3)"):
        store.read_limited("a", 2)


class Refusing(BaseHTTPRequestHandler):
    """Answers with the status that is the first part of the path; with 200, less of a body than it announces."""

    def do_HEAD(self) -> None:
        status = int(self.path.split("/")[1])
        if status != 200:
            self.send_error(status)
            return
        self.send_response(status)
        self.send_header("Content-Length", "100")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"cut")

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


def test_a_web_server_that_breaks_off_or_refuses_is_a_sentence(refusing: Store) -> None:
    with pytest.raises(InputError, match="200: expected a readable file: Response payload is not completed"):
        refusing.read_limited("200", 200)
    with pytest.raises(InputError, match="429: expected a readable file: 429, message='Too Many Requests'"):
        refusing.read("429")
    with pytest.raises(InputError, match="429: expected a folder that can be listed: 429, message='Too Many"):
        Store(f"{refusing.url}/429").find()


def test_a_web_server_that_says_no_more_is_a_sentence(refusing: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def stall(*_: object) -> None:
        raise FSTimeoutError

    monkeypatch.setattr(refusing.fs, "open", stall)
    with pytest.raises(InputError, match="file: expected a readable file: FSTimeoutError"):
        refusing.read_limited("file", 3)


@pytest.fixture
def odd(tmp_path: Path) -> Store:
    """A folder with everything that is no readable file."""
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    return Store(str(tmp_path))


@pytest.mark.parametrize(
    "name", ["file/x", "folder", "loop", "zero", "pipe", "", ".", "x" * 300, "nul\0", "x/" * 3000, "half\ud800"]
)
def test_what_is_no_readable_file_is_a_sentence(odd: Store, name: str) -> None:
    for read in (lambda: odd.read(name), lambda: odd.read_limited(name, 3)):
        with pytest.raises(InputError, match=r": expected a readable file[,:] ") as caught:
            read()
        assert str(caught.value).isprintable()
        assert caught.value.text.startswith("expected a readable file")
    with pytest.raises(InputError, match="expected a table"), odd.open(name, "a table"):
        pass


@pytest.mark.parametrize("folder", ["file", "file/x", "loop", "zero", "pipe", "x" * 300])
def test_a_folder_that_cannot_be_written_is_a_sentence(odd: Store, folder: str) -> None:
    with pytest.raises(InputError, match=r"a: expected a file that can be written: .*: free or permit"):
        Store(f"{odd.url}/{folder}").write("a", b"1")


def test_a_file_larger_than_its_listing_is_read_no_further_than_the_limit(store: Store) -> None:
    store.write("a", b"12345")
    store.write("b", b"1")
    for size in (0, 1):
        found = store.read_many({"a": size, "b": size, "c": size}, 3)
        assert found["b"] == b"1"
        assert str(found["a"]).startswith("expected at most 3 bytes, got ")
        assert str(found["c"]).startswith("expected a readable file: ")


def test_a_name_that_is_no_unicode_is_escaped(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\xfe.png")).write_bytes(b"1")
    assert Store(str(tmp_path)).find() == {r"\udcff\udcfe.png": 1}


def test_a_folder_is_within_itself_and_those_above(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("images")
    images = Store(str(tmp_path / "images"))
    assert all(Store(f"{tmp_path}/{name}").within(images) for name in ("images", "images/", "images/a", "link/a"))
    assert not any(Store(f"{tmp_path}/{name}").within(images) for name in ("", "images2", "other"))
    assert Store("memory://a/b").within(Store("memory://a"))
    assert not Store(f"memory://{tmp_path}/images/a").within(images)


def test_a_web_server_that_cannot_be_reached_is_no_absent_file() -> None:
    with pytest.raises(InputError, match=r"file: Client.*: Cannot connect to host"):
        Store(f"http://127.0.0.1:{free_port()}").read_limited("file", 3)


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    store.write("a", b"before")

    def fail(_: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match="a: expected a file that can be written: no space"):
        store.write("a", b"after")
    assert store.read("a") == b"before"


@pytest.mark.parametrize("url", ["nothing://x", "s3://bucket/folder"])
def test_an_unknown_protocol_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="expected a folder or a URL that fsspec can open"):
        Store(url)
