"""Bundles of a few bytes that ask for gigabytes, hold others up or end in a traceback, beside a model that serves."""

import io
import logging
import os
import re
import shutil
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest
from numpy.lib import format as npy
from onnx import ModelProto, TensorProto, helper, numpy_helper

from bundle import layout
from examples.local_server import LocalServer, running
from tests.export.bundles import change_model, replace_file
from tests.reliability.accounting import check_healthy
from tests.reliability.resources import MIB, metrics
from tests.server.conftest import GOLDEN, write_graph

_LOGGER = logging.getLogger(__name__)
SCALE = int(os.environ.get("TEST_SCALE", "1"))
# Beyond what the server holds without them; the worst took 5,800 before.
MOST_MIB = 300
SECONDS = 60
SHAPE = ["batch", 32, 32, 1]


def graph(nodes: list, **constants: np.ndarray) -> bytes:
    """A denoiser of 32 x 32 pixels that ends in Add of `images` and `s`."""
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    inner = helper.make_graph(
        [*nodes, helper.make_node("Add", ["images", "s"], ["denoised"])],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("denoised", TensorProto.FLOAT, SHAPE)],
        weights,
    )
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def summed(operator: str, *inputs: str, **attributes: object) -> list:
    node = helper.make_node(operator, inputs, ["c"], **attributes)
    return [node, helper.make_node("ReduceMean", ["c"], ["s"], keepdims=0)]


def doubled() -> bytes:
    nodes = [helper.make_node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(30)]
    return graph([*nodes, helper.make_node("ReduceMean", ["c30"], ["s"], keepdims=0)], c0=ONE)


def declared() -> bytes:
    model = ModelProto.FromString(graph(summed("Identity", "w"), w=ONE))
    model.graph.initializer[0].dims[0] = 2**40
    return model.SerializeToString()


ONE = np.ones(1, np.float32)
GRAPHS: dict[str, Callable[[], bytes]] = {
    "constant-doubled": doubled,
    "constant-tiled": lambda: graph(summed("Tile", "w", "n"), w=ONE, n=np.array([2**30])),
    "constant-expanded": lambda: graph(summed("Expand", "w", "n"), w=ONE, n=np.array([2**15, 2**15])),
    "constant-padded": lambda: graph(summed("Pad", "w", "n"), w=ONE, n=np.array([0, 2**30])),
    "constant-product": lambda: graph(
        summed("MatMul", "a", "b"), a=np.ones((2**15, 1), np.float32), b=np.ones((1, 2**15), np.float32)
    ),
    "weights-declared": declared,
    "rows-tiled": lambda: graph(summed("Tile", "images", "n"), n=np.array([1, 500, 500, 10])),
    "rows-resized": lambda: graph(
        summed("Resize", "images", "", "n", mode="nearest"), n=np.array([1, 2000, 2000, 1], np.float32)
    ),
    "rows-padded": lambda: graph(summed("Pad", "images", "n"), n=np.array([0, 0, 0, 0, 0, 2**14, 2**14, 0])),
}


def overlapping(entries: int, size_bytes: int) -> bytes:
    """golden.npz whose arrays each hold the next with its headers: as much memory as their product."""
    content, infos = bytes(size_bytes), []
    for index in reversed(range(entries)):
        head = io.BytesIO()
        npy.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (len(content),)})
        content = head.getvalue() + content
        info = zipfile.ZipInfo(f"denoise/0/inputs/{index:05}.npy")
        info.file_size = info.compress_size = len(content)
        info.CRC = zlib.crc32(content)
        content = info.FileHeader() + content
        infos.append((info, len(content)))
    for info, left in infos:
        info.header_offset = len(content) - left
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        buffer.write(content)
        archive.filelist, archive.start_dir, archive._didModify = [info for info, _ in infos], len(content), True
    return buffer.getvalue()


def crowded(entries: int) -> bytes:
    """golden.npz of very many entries without content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for index in range(entries):
            archive.writestr(zipfile.ZipInfo(f"{index:06}"), b"")
    return buffer.getvalue()


def with_model(text: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / layout.MODEL_FILE).write_bytes(text)


def instead(folder: Path, name: str, make: Callable[[Path], object]) -> None:
    (folder / name).unlink()
    make(folder / name)


FILES: dict[str, Callable[[Path], object]] = {
    "golden-overlapping": lambda folder: replace_file(folder, layout.GOLDEN_FILE, overlapping(40 * SCALE, 2_600_000)),
    "golden-of-many-entries": lambda folder: replace_file(folder, layout.GOLDEN_FILE, crowded(20_000)),
    "batches-without-end": lambda folder: change_model(
        folder, lambda model: model.signatures[0].batch_buckets.append(2**30)
    ),
    "golden-is-a-device": lambda folder: instead(folder, layout.GOLDEN_FILE, lambda path: path.symlink_to("/dev/zero")),
    "graph-is-a-pipe": lambda folder: instead(folder, "denoise.onnx", os.mkfifo),
    "model-is-deep": with_model(b'{"name":' * 100_000),
    "model-of-long-numbers": with_model(b'{"height": ' + b"9" * 100_000 + b"}"),
    "model-of-no-text": with_model(b'{"name": "\\ud800"}'),
    "model-of-megabytes": with_model(b'{"name": "' + b"x" * 4_000_000 + b'"}'),
    "model-of-nan": with_model(b'{"metrics": {"a": NaN}, "height": Infinity}'),
}


def write_hostile(folder: Path) -> list[str]:
    """One bundle of each kind; their names."""
    for name, make in GRAPHS.items():
        write_graph(folder, name, 1, [helper.make_node("Identity", ["images"], ["denoised"])], [])
        replace_file(folder / name / "1", "denoise.onnx", make())
    for name, change in FILES.items():
        write_graph(folder, name, 1, [helper.make_node("Identity", ["images"], ["denoised"])], [])
        change(folder / name / "1")
    return [*GRAPHS, *FILES]


def peak_mib(server: LocalServer) -> float:
    """Most memory that the server has had."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / MIB


def refused(server: LocalServer, name: str) -> float:
    return metrics(server, "autoencoder_model_loads_total", model=name, result="invalid")


def readiness(server: LocalServer) -> str:
    try:
        with urllib.request.urlopen(f"http://{server.metrics_address}/readyz", timeout=30) as answer:
            return answer.read().decode()
    except HTTPError as error:
        return error.read().decode()


@pytest.mark.parametrize("transport", ["native", "grpcio"][: 1 if SCALE == 1 else 2])
def test_hostile_bundles_are_refused_cheaply(tmp_path: Path, transport: str) -> None:
    repository, staging, log = tmp_path / "models", tmp_path / "staging", tmp_path / "server.log"
    shutil.copytree(GOLDEN / "vae", repository / "vae")
    names = write_hostile(staging)
    with running(repository, log, "--poll-seconds", "0.1", "--transport", transport) as server:
        check_healthy(server)
        start = peak_mib(server)
        for name in names:
            before = peak_mib(server)
            (staging / name).rename(repository / name)
            end = time.monotonic() + SECONDS
            while not refused(server, name):
                assert server.process.poll() is None, f"{name} has ended the server"
                assert time.monotonic() < end, f"{name} has not been refused"
                check_healthy(server)
            _LOGGER.info("%s %s: peak %+.0f MiB", transport, name, peak_mib(server) - before)
        assert peak_mib(server) < start + MOST_MIB
        check_healthy(server)
        _LOGGER.info("%s: %d bundles refused, peak %+.0f MiB", transport, len(names), peak_mib(server) - start)
        # Reasons are for people: each is a sentence or two.
        assert len(readiness(server)) < 700 * len(names)
    assert "Traceback" not in log.read_text()
