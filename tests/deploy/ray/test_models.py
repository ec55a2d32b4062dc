"""Models of a replica: a folder, or a copy of a URL."""

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fsspec.implementations.cached import SimpleCacheFileSystem
from fsspec.implementations.zip import ZipFileSystem

from deploy.ray.models import contents, repository
from deploy.ray.settings import ClusterError
from tests.deploy.conftest import GOLDEN


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    """A web server with models.zip; its URL."""
    shutil.make_archive(str(tmp_path / "www" / "models"), "zip", GOLDEN)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=tmp_path / "www"))
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def copied(url: str, cache: Path, revision: str) -> Path:
    """The copy of a replica that has ended."""
    folder, descriptor = repository(url, cache, revision)
    assert descriptor is not None
    os.close(descriptor)
    return folder


def files(folder: Path) -> set[str]:
    return {str(each.relative_to(folder)) for each in folder.rglob("*.onnx")}


def test_a_folder_is_served_in_place(tmp_path: Path) -> None:
    assert repository(str(GOLDEN), tmp_path / "cache", "one") == (GOLDEN, None)
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"none is not a directory on this node: share it, or use a URL"):
        repository(str(tmp_path / "none"), tmp_path, "one")


def test_a_url_is_copied_once_for_each_revision(tmp_path: Path) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    shutil.copytree(GOLDEN / "vae", source / "vae")
    folder = copied(f"file://{source}", cache, "one")
    assert folder == cache / "one"
    assert files(folder) == files(source)
    shutil.rmtree(source)
    assert copied(f"file://{source}", cache, "one") == folder
    assert [each.name for each in cache.iterdir()] == ["one"]


def test_old_copies_go(tmp_path: Path) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    shutil.copytree(GOLDEN / "vae", source / "vae")
    for revision in "abcde":
        copied(f"file://{source}", cache, revision)
    assert {each.name for each in cache.iterdir()} == {"c", "d", "e"}


def test_a_copy_that_is_served_stays(tmp_path: Path) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    shutil.copytree(GOLDEN / "vae", source / "vae")
    _, descriptor = repository(f"file://{source}", cache, "a")
    assert descriptor is not None
    for revision in "bcde":
        copied(f"file://{source}", cache, revision)
    assert {each.name for each in cache.iterdir()} == {"a", "c", "d", "e"}
    os.close(descriptor)
    copied(f"file://{source}", cache, "f")
    assert {each.name for each in cache.iterdir()} == {"d", "e", "f"}


def test_a_copy_that_another_replica_deletes_is_fetched_again(tmp_path: Path) -> None:
    source, cache, descriptors = tmp_path / "source", tmp_path / "cache", list[int | None]()
    shutil.copytree(GOLDEN / "vae", source / "vae")
    copy = copied(f"file://{source}", cache, "a")
    deleting = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(deleting, fcntl.LOCK_EX)
    replica = threading.Thread(target=lambda: descriptors.append(repository(f"file://{source}", cache, "a")[1]))
    replica.start()
    while replica.is_alive() and times_open(copy) < 2:
        time.sleep(0.01)
    shutil.rmtree(copy)
    os.close(deleting)
    replica.join()
    assert files(copy) == files(source)
    assert descriptors[0] is not None
    assert os.path.samestat(os.fstat(descriptors[0]), copy.stat())
    os.close(descriptors[0])


def times_open(folder: Path) -> int:
    return [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()].count(str(folder))


def test_a_copy_that_vanishes_while_old_ones_are_sought_is_passed_over(tmp_path: Path) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    shutil.copytree(GOLDEN / "vae", source / "vae")
    cache.mkdir()
    # Listed, and not there when it is looked at.
    (cache / "vanished").symlink_to(tmp_path / "nowhere")
    for revision in "abcd":
        copied(f"file://{source}", cache, revision)
    assert {each.name for each in cache.iterdir()} == {"vanished", "b", "c", "d"}


def test_an_archive_of_a_web_server(tmp_path: Path, website: str) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is absent: pip install '.[cluster]' in a checkout")
    folder = copied(f"{website}/models.zip", tmp_path / "cache", "one")
    assert files(folder) == files(GOLDEN)


def test_other_contents_at_a_url_have_another_name(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(GOLDEN / "vae", source / "vae")
    url = f"file://{source}"
    before = contents(url)
    assert contents(f"{url}/") == before != ""
    model = next(source.rglob("model.json"))
    model.write_text(model.read_text().replace("vae", "vaf"))
    changed = contents(url)
    shutil.copytree(model.parent, model.parent.with_name("2"))
    assert len({before, changed, contents(url)}) == 3
    assert contents(str(source)) == ""


def test_other_contents_of_an_archive_have_another_name(tmp_path: Path, website: str) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is absent: pip install '.[cluster]' in a checkout")
    before = contents(f"{website}/models.zip")
    assert contents(f"{website}/models.zip") == before
    shutil.make_archive(str(tmp_path / "www" / "models"), "zip", GOLDEN / "vae")
    # A command is a process of its own, and remembers nothing of an earlier one.
    for cache in (ZipFileSystem, SimpleCacheFileSystem):
        cache.clear_instance_cache()
    assert contents(f"{website}/models.zip") != before


@pytest.mark.parametrize("url", ["file:///nowhere/at/all", "nonsense://x/y"])
def test_a_url_without_models_is_named_and_leaves_nothing(tmp_path: Path, url: str) -> None:
    with pytest.raises(ClusterError, match=f"url: {url} cannot be fetched: "):
        repository(url, tmp_path / "cache", "one")
    assert not list((tmp_path / "cache").iterdir())
    with pytest.raises(ClusterError, match=f"url: {url} cannot be fetched: "):
        contents(url)
