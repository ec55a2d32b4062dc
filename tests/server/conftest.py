"""Servers on the golden models, and tiny bundles of every kind that the tests need."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc, model_pb2
from onnx import TensorProto, helper, numpy_helper

from bundle import layout
from bundle.golden import Case, Golden
from server.app import App
from server.config import Config

GOLDEN = Path(__file__).parents[1] / "golden"
TRANSPORTS = ("native", "grpcio")


@dataclass(frozen=True)
class Served:
    """A server in this process and a client's stub."""

    app: App
    address: str
    metrics_address: str
    channel: grpc.Channel
    stub: autoencoder_pb2_grpc.AutoencoderServiceStub


@contextmanager
def serving(repository: Path, *, scanned: bool = True, **settings: object) -> Iterator[Served]:
    """Run a server on free ports, in this process; `scanned` waits until every version has been tried."""
    ports = {"port": 0, "metrics_port": 0, "log_level": "error"}
    app = App(Config(repository=repository, **{**ports, **settings}))
    _, grpc_part, metrics_part, *_ = app.start().split()
    address = grpc_part.removeprefix("grpc=")
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    try:
        # It listens after five seconds whatever its models do, which a busy machine may take to load them.
        assert not scanned or app.manager.wait_scanned(120)
        with grpc.insecure_channel(address, options=options) as channel:
            stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
            yield Served(app, address, metrics_part.removeprefix("metrics="), channel, stub)
    finally:
        app.stop()


@pytest.fixture(scope="session", params=TRANSPORTS)
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    """Golden models on each transport; the tests that use it change nothing."""
    with serving(GOLDEN, transport=request.param, poll_seconds=0) as served:
        yield served


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """Each transport, for tests that start a server of their own."""
    return request.param


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty repository."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def pixels(count: int, shape: tuple[int, int, int] = (8, 8, 1), seed: int = 0) -> np.ndarray:
    """(count, H, W, C) uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def tensor(array: np.ndarray) -> pb.Tensor:
    """Message of an array."""
    types = {"u1": model_pb2.DATA_TYPE_UINT8, "f2": model_pb2.DATA_TYPE_FLOAT16, "f4": model_pb2.DATA_TYPE_FLOAT32}
    return pb.Tensor(data_type=types[array.dtype.str[1:]], shape=array.shape, data=array.tobytes())


def images(array: np.ndarray) -> pb.Images:
    """Message of images."""
    return pb.Images(tensor=tensor(array))


def array(message: pb.Tensor) -> np.ndarray:
    """Array of a message."""
    types = {model_pb2.DATA_TYPE_UINT8: np.uint8, model_pb2.DATA_TYPE_FLOAT32: np.float32}
    return np.frombuffer(message.data, types[message.data_type]).reshape(tuple(message.shape))


def graph_run(name: str, model: str, batch: np.ndarray) -> list[np.ndarray]:
    """A golden graph on onnxruntime directly."""
    session = onnxruntime.InferenceSession(GOLDEN / model / "1" / f"{name}.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})


def copy_version(repository: Path, name: str, version: int, edit: Callable[[dict], None] | None = None) -> Path:
    """A golden model as another version, put in place whole."""
    source, target = GOLDEN / name / "1", repository / name / str(version)
    description = json.loads((source / layout.MODEL_FILE).read_text())
    description["version"] = str(version)
    if edit is not None:
        edit(description)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(layout.MODEL_FILE))
    (target / layout.MODEL_FILE).write_text(json.dumps(description))
    return target


def write_slow_denoiser(repository: Path, name: str = "slow", version: int = 1, layers: int = 30) -> None:
    """A denoiser whose graph multiplies large matrices: milliseconds a row."""
    size = 1024
    weights = np.random.default_rng(0).normal(0, size**-0.5, (size, size)).astype(np.float32)
    nodes = [helper.make_node("Reshape", ["images", "flat_shape"], ["x0"])]
    nodes += [helper.make_node("MatMul", [f"x{index}", "w"], [f"x{index + 1}"]) for index in range(layers)]
    nodes += [
        helper.make_node("Sigmoid", [f"x{layers}"], ["bounded"]),
        helper.make_node("Reshape", ["bounded", "image_shape"], ["denoised"]),
    ]
    constants = [
        numpy_helper.from_array(weights, "w"),
        numpy_helper.from_array(np.array([-1, size]), "flat_shape"),
        numpy_helper.from_array(np.array([-1, 32, 32, 1]), "image_shape"),
    ]
    write_graph(repository, name, version, nodes, constants)


def write_graph(
    repository: Path, name: str, version: int, nodes: list, constants: list, domains: tuple[str, ...] = ("",)
) -> None:
    """A denoiser of 32 x 32 pixels from nodes that turn `images` into `denoised`."""
    shape = ["batch", 32, 32, 1]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("denoised", TensorProto.FLOAT, shape)],
        constants,
    )
    opsets = [helper.make_opsetid(domain, 17 if not domain else 1) for domain in domains]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    batch = np.random.default_rng(1).random((2, 32, 32, 1), np.float32)
    expected = batch
    # Strangers' operators cannot run.
    if domains == ("",):
        (expected,) = onnxruntime.InferenceSession(data).run(None, {"images": batch})
    golden = Golden({"denoise": (Case({"images": batch}, {"denoised": expected}),)})
    files = {"denoise.onnx": data, layout.GOLDEN_FILE: golden.to_bytes()}
    spec = {"data_type": model_pb2.DATA_TYPE_FLOAT32, "shape": [-1, 32, 32, 1]}
    model = model_pb2.Model(
        name=name,
        version=str(version),
        family="denoiser",
        methods=["Denoise"],
        height=32,
        width=32,
        channels=1,
        signatures=[
            model_pb2.Signature(
                name="denoise",
                file="denoise.onnx",
                inputs=[model_pb2.TensorSpec(name="images", **spec)],
                outputs=[model_pb2.TensorSpec(name="denoised", **spec)],
                batch_buckets=[1, 2, 4, 8],
            )
        ],
        files=layout.describe_files(files),
        imported=True,
    )
    folder = repository / name / str(version)
    folder.mkdir(parents=True)
    for path, content in files.items():
        (folder / path).write_bytes(content)
    (folder / layout.MODEL_FILE).write_bytes(layout.encode_model(model))


def metric(served: Served, name: str, **labels: str) -> float:
    """Sum of a metric's samples that carry the labels."""
    return sum(
        sample.value
        for family in served.app.metrics.registry.collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
