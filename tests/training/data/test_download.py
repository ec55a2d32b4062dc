import gzip
import hashlib
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import write_idx
from training.config import Data
from training.data import dataset, download, idx
from training.errors import DataError


class Mirror(http.server.ThreadingHTTPServer):
    """A mirror on loopback that knows ranges, and can break off after some bytes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.folder, self.asked = folder, []
        self.breaks_after = sys.maxsize

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Answers(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        path, expected = self.server.folder / self.path.strip("/"), self.headers.get("Range")
        self.server.asked.append((path.name, expected))
        if not path.is_file():
            self.send_error(404)
            return
        content, start = path.read_bytes(), int(expected.removeprefix("bytes=").rstrip("-")) if expected else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if expected else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(
            content[start : start + self.server.breaks_after] if self.server.breaks_after else content[start:]
        )

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Serves a small data set whose checksums are the known ones of MNIST for the time of the test."""
    (tmp_path / "mirror").mkdir()
    write_idx(tmp_path / "mirror", 60)
    sums = {
        name: hashlib.sha256(gzip.decompress((tmp_path / "mirror" / f"{name}.gz").read_bytes())).hexdigest()
        for name in idx.FILES
    }
    monkeypatch.setitem(idx.CHECKSUMS, "mnist", idx.Checksums(sha256=sums))
    with Mirror(tmp_path / "mirror") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_missing_files_are_fetched_checked_and_read(mirror: Mirror, tmp_path: Path) -> None:
    found = dataset.load(Data(kind="mnist", folder=str(tmp_path / "mnist"), download=mirror.url))
    assert [len(split) for split in (found.train, found.validation, found.test)] == [55, 5, 60]
    assert sorted(path.name for path in (tmp_path / "mnist").iterdir()) == sorted(f"{name}.gz" for name in idx.FILES)
    dataset.load(Data(kind="mnist", folder=str(tmp_path / "mnist"), download=mirror.url))
    assert len(mirror.asked) == 4, "what is there is not fetched again"


def test_a_broken_connection_is_continued(mirror: Mirror, tmp_path: Path) -> None:
    mirror.breaks_after = 1000
    with pytest.raises(DataError, match=r"broke after 1000 of \d+ bytes; the same command continues"):
        download.fetch("mnist", tmp_path / "mnist", mirror.url)
    mirror.breaks_after = sys.maxsize
    download.fetch("mnist", tmp_path / "mnist", mirror.url)
    assert mirror.asked[1] == ("train-images-idx3-ubyte.gz", "bytes=1000-")
    images, _ = idx.read_pair(tmp_path / "mnist", "train", idx.CHECKSUMS["mnist"])
    np.testing.assert_array_equal(images, np.random.default_rng(0).integers(0, 256, (60, 28, 28, 1)))


def test_a_whole_file_that_was_not_yet_renamed_is_taken(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    name = "train-images-idx3-ubyte.gz"
    (tmp_path / "mnist" / f"{name}.part").write_bytes((mirror.folder / name).read_bytes())
    download.fetch("mnist", tmp_path / "mnist", mirror.url)
    assert (tmp_path / "mnist" / name).exists()


def test_another_content_is_refused_and_not_kept(mirror: Mirror, tmp_path: Path) -> None:
    (mirror.folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(DataError, match=r"expected SHA-256"):
        download.fetch("mnist", tmp_path / "mnist", mirror.url)
    assert not list((tmp_path / "mnist").glob("t10k-labels*"))


def test_no_mirror_is_one_sentence_with_each_failure(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"cannot download train-images-idx3-ubyte.gz; http://127.0.0.1:9/.*--download URL"
    ):
        download.fetch("mnist", tmp_path, "http://127.0.0.1:9/")


def test_the_next_mirror_is_asked_where_one_has_gone(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # torchvision #8568: the only address of MNIST answers 404.
    monkeypatch.setitem(download.MIRRORS, "mnist", (f"{mirror.url}moved/", mirror.url))
    download.fetch("mnist", tmp_path / "mnist")
    assert len(list((tmp_path / "mnist").glob("*.gz"))) == 4


def test_what_is_no_url_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown url type: 'nonsense/.*give another --download URL"):
        download.fetch("mnist", tmp_path, "nonsense")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot put files into .*give a folder with --data-dir"):
        download.fetch("mnist", tmp_path / "file", "http://127.0.0.1:9/")


def test_a_missing_file_on_the_mirror_is_named(mirror: Mirror, tmp_path: Path) -> None:
    (mirror.folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"cannot download train-labels.*404"):
        download.fetch("mnist", tmp_path / "mnist", mirror.url)


def test_digits_have_nothing_to_download() -> None:
    with pytest.raises(DataError, match="only mnist and fashion-mnist have mirrors"):
        dataset.load(Data(kind="digits", download=""))
