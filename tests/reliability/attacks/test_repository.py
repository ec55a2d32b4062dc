"""Hostile entries of a repository: a good model beside them is served, changed, unloaded and deleted as ever."""

import io
import json
import logging
import os
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZipFile

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc
from inference import open_inference_pb2
from inference.open_inference_pb2_grpc import GRPCInferenceServiceStub

from bundle import layout
from examples.local_server import LocalServer, running
from tests.reliability.resources import MIB, Holding, metrics
from tests.server.conftest import GOLDEN, copy_version, images, pixels

_LOGGER = logging.getLogger(__name__)
# The long form has a hundred times as many entries, and measures what they cost.
SCALE = int(os.environ.get("TEST_SCALE", "1"))
LONG_NAME = "x" * 300
Trap = Callable[[Path], object]


def bundle(repository: Path, name: str, **contents: bytes) -> Path:
    """A bundle with other files, which model.json describes as they are."""
    folder = copy_version(repository, name.partition("/")[0], 1) if "/" not in name else repository / name
    if "/" in name:
        shutil.copytree(GOLDEN / "vae" / "1", folder)
    described = json.loads((folder / "model.json").read_text())
    for file, data in contents.items():
        path = file.replace("_", ".")
        (folder / path).write_bytes(data)
        entry = layout.describe_file(path, data)
        for listed in described["files"]:
            if listed["path"] == path:
                listed.update(size_bytes=str(entry.size_bytes), sha256=entry.sha256)
    (folder / "model.json").write_text(json.dumps({**described, "name": name.partition("/")[0]}))
    return folder


def named(repository: Path, name: str) -> Path:
    return bundle(repository, f"{name}/1")


def replaced(repository: Path, name: str, file: str) -> Path:
    """Path of a file of a bundle, removed."""
    path = named(repository, name) / file
    path.unlink()
    return path


def described(repository: Path, name: str, text: str) -> None:
    folder = repository / name
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(text)


def many(repository: Path) -> None:
    """Versions that are all bad, with long reasons."""
    for number in range(1, 50 * SCALE + 1):
        described(repository, f"many/{number}", f'{{"{"x" * 1000}": {number}}}')


def crowded(repository: Path) -> None:
    """A refused version with a great many files."""
    folder = repository / "crowded" / "1"
    described(repository, "crowded/1", '{"name": "crowded"}')
    for number in range(600 * SCALE):
        (folder / f"{number}.onnx").touch()


def deep_header() -> bytes:
    """An archive of one array, whose header is nested deep."""
    header = ("{'descr': " + "[" * 5000 + "]" * 5000 + ", 'fortran_order': False, 'shape': (1,)}\n").encode()
    file = io.BytesIO()
    with ZipFile(file, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header)
    return file.getvalue()


TRAPS: dict[str, Trap] = {
    "a link that is too long": lambda folder: (folder / "zz").symlink_to(LONG_NAME),
    "a link to itself": lambda folder: (folder / "loop").symlink_to("loop"),
    "a link to nothing": lambda folder: (folder / "gone").symlink_to("nowhere"),
    "a link to /proc": lambda folder: (folder / "proc").symlink_to("/proc"),
    "a link to the repository": lambda folder: (folder / "circle").symlink_to(folder),
    "a version that is a link that is too long": lambda folder: (folder / "vae" / "9").symlink_to(LONG_NAME),
    "a version that is a link to itself": lambda folder: (folder / "vae" / "8").symlink_to("8"),
    "a version of two hundred digits": lambda folder: described(folder, f"vae/{'9' * 200}", "{}"),
    "a description that is a pipe": lambda folder: os.mkfifo(replaced(folder, "pipe", "model.json")),
    "a description that is a device": lambda folder: replaced(folder, "zero", "model.json").symlink_to("/dev/zero"),
    "a description that is a folder": lambda folder: replaced(folder, "folder", "model.json").mkdir(),
    "a graph that is a pipe": lambda folder: os.mkfifo(replaced(folder, "graph-pipe", "encode.onnx")),
    "a graph that is a device": lambda folder: replaced(folder, "graph-zero", "encode.onnx").symlink_to("/dev/zero"),
    "brackets nested deep": lambda folder: described(folder, "deep/1", "[" * 300_000),
    "a description of four megabytes": lambda folder: described(folder, "large/1", '{"' + "\x1bx" * 2**20 + '": 1}'),
    "a file name with a null": lambda folder: described(
        folder, "null/1", '{"name":"null","files":[{"path":"a\\u0000b"}]}'
    ),
    "headers nested deep": lambda folder: bundle(folder, "header/1", golden_npz=deep_header()),
    "many bad versions": many,
    "many files": crowded,
    "a name that is not UTF-8": lambda folder: (folder / os.fsdecode(b"r\xfcnd")).mkdir(),
    "a name with control characters": lambda folder: named(folder, "a\x1b[31m\nERROR"),
    "a name that is no model's": lambda folder: named(folder, "My_Model"),
    "labels that are a pipe": lambda folder: os.mkfifo(folder / "vae" / "labels.json"),
}


class Served:
    """A server beside the traps, and what an operator does with its good model."""

    def __init__(self, server: LocalServer, repository: Path, channel: grpc.Channel) -> None:
        self.server = server
        self._repository = repository
        self._stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
        self._control = GRPCInferenceServiceStub(channel)

    def version(self) -> str:
        """Version that answers; empty when none does."""
        try:
            request = pb.EncodeRequest(model_name="vae", images=images(pixels(1)))
            return self._stub.Encode(request, timeout=30).info.model_version
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return ""
            raise

    def wait(self, version: str) -> float:
        """Seconds until this version answers."""
        began = time.monotonic()
        while self.version() != version:
            assert time.monotonic() - began < 60, f"version {version} does not answer"
            time.sleep(0.02)
        return time.monotonic() - began

    def readyz(self) -> str:
        with urllib.request.urlopen(f"http://{self.server.metrics_address}/readyz", timeout=30) as answer:
            return answer.read().decode()

    def index(self) -> open_inference_pb2.RepositoryIndexResponse:
        return self._control.RepositoryIndex(open_inference_pb2.RepositoryIndexRequest(), timeout=30)

    def operate(self) -> list[float]:
        """Publish, roll back, unload and load; seconds until each is seen."""
        copy_version(self._repository, "vae", 2)
        waits = [self.wait("2")]
        shutil.rmtree(self._repository / "vae" / "2")
        waits.append(self.wait("1"))
        self._control.RepositoryModelUnload(
            open_inference_pb2.RepositoryModelUnloadRequest(model_name="vae"), timeout=60
        )
        assert self.version() == ""
        self._control.RepositoryModelLoad(open_inference_pb2.RepositoryModelLoadRequest(model_name="vae"), timeout=60)
        assert self.version() == "1"
        return waits


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    copy_version(folder, "vae", 1)
    return folder


@pytest.fixture
def served(repository: Path, tmp_path: Path) -> Iterator[Served]:
    """A server that finds half of the traps when it starts, and the others while it serves."""
    traps = list(TRAPS.values())
    for trap in traps[::2]:
        trap(repository)
    flags = ("--model-control", "--poll-seconds", "0.1", "--log-format", "json")
    with running(repository, tmp_path / "log", *flags) as server, grpc.insecure_channel(server.address) as channel:
        served = Served(server, repository, channel)
        served.wait("1")
        for trap in traps[1::2]:
            trap(repository)
        yield served


def test_a_good_model_is_served_and_changed_beside_every_trap(served: Served, tmp_path: Path) -> None:
    waits = [*served.operate(), *served.operate()]
    # Every trap has been met by now: what was added last has been refused.
    while metrics(served.server, "autoencoder_model_loads_total", model="many") < 50 * SCALE:
        time.sleep(0.1)
    text, index, held = served.readyz(), served.index(), Holding.of(served.server.process.pid)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    _LOGGER.info(
        "%d traps: /readyz %d bytes, index %d bytes in %d entries, log %d lines, longest %d, %d MiB, waits of %s s",
        len(TRAPS),
        len(text),
        index.ByteSize(),
        len(index.models),
        len(lines),
        max(len(line["message"]) for line in lines),
        held.rss_bytes // MIB,
        [round(wait, 2) for wait in waits],
    )
    assert text.startswith("1 versions serve on CPUExecutionProvider; ")
    assert len(text) < 10_000
    assert index.ByteSize() < 20_000
    assert all("Traceback" not in json.dumps(line) for line in lines)
    assert max(len(line["message"]) for line in lines) < 1000
    assert held.rss_bytes < 512 * MIB


@pytest.mark.slow
def test_what_refused_entries_cost_at_a_poll(served: Served) -> None:
    """A version of 60,000 files and 5,000 bad versions with TEST_SCALE=100."""
    while metrics(served.server, "autoencoder_model_loads_total", model="many") < 50 * SCALE:
        time.sleep(0.1)
    before, began = spent(served), time.monotonic()
    time.sleep(5)
    share = (spent(served) - before) / (time.monotonic() - began)
    _LOGGER.info("polls every 0.1 s take %.3f of a core at scale %d", share, SCALE)


def spent(served: Served) -> float:
    """CPU seconds of the server."""
    return metrics(served.server, "process_cpu_seconds_total")
