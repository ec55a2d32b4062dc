"""Fault injection: what fails on real servers while a real Prometheus scrapes them, and how it is repaired."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc
from google.protobuf.message import Message
from onnx import helper, numpy_helper

from examples.local_server import LocalServer, running
from tests.deploy.conftest import GOLDEN, free_port
from tests.deploy.monitoring import NAMESPACE, Prometheus, eventually, prometheus, write_targets
from tests.server.conftest import copy_version, images, pixels, write_graph, write_slow_denoiser
from tests.server.free_models import write_detector

FLOOD_THREADS = 10
# Enough that twenty are answered in the window of the alert, however slow the machine.
WAITING_THREADS = 32
# A fake of NVIDIA's module, for machines without a card.
CARD = Path(__file__).with_name("card")


def write_fragile_denoiser(repository: Path) -> None:
    """A denoiser whose graph fails on white pixels: it looks them up in a table that has no such entry."""
    constants = [numpy_helper.from_array(np.zeros(1, np.float32), "table")]
    nodes = [
        helper.make_node("Cast", ["images"], ["index"], to=7),
        helper.make_node("Gather", ["table", "index"], ["denoised"]),
    ]
    write_graph(repository, "fragile", 1, nodes, constants)


def write_large_denoiser(repository: Path) -> None:
    """A denoiser that takes as much memory as all the others together."""
    table = np.zeros((100, 1024, 256), np.float32)
    nodes = [
        helper.make_node("ReduceMax", ["table"], ["most"], keepdims=0),
        helper.make_node("Add", ["images", "most"], ["denoised"]),
    ]
    write_graph(repository, "large", 1, nodes, [numpy_helper.from_array(table, "table")])


class Faults:
    """Injects faults into the servers and repairs them."""

    def __init__(
        self, folder: Path, watcher: Prometheus, busy: LocalServer, killable: LocalServer, fallback: "Replaceable"
    ) -> None:
        self._folder = folder
        self._watcher = watcher
        # Of the server that is not flooded, so that no scrape of its model metrics is missed.
        self._repository = fallback.repository
        self._busy = busy
        self._killable = killable
        self._fallback = fallback
        self._targets = [busy.metrics_address, killable.metrics_address, fallback.server.metrics_address]
        self._over = threading.Event()
        self._channels: list[grpc.Channel] = []
        works = (
            *[self._flood] * FLOOD_THREADS,
            *[self._wait] * WAITING_THREADS,
            self._drift,
            self._reconstruct,
            self._fail,
            self._alarm,
        )
        self._threads = [threading.Thread(target=work) for work in works]
        self._restarted = ExitStack()

    def inject(self) -> None:
        """Overload, drift, anomalies, failing runs, a damaged version, a deleted model, a killed server."""
        for thread in self._threads:
            thread.start()
        shutil.move(self._repository / "vae", self._repository.parent / "vae")
        damaged = copy_version(self._repository, "fc-ae", 2)
        with (damaged / "encode.onnx").open("ab") as file:
            file.write(b"!")
        write_large_denoiser(self._repository)
        self._killable.process.kill()

    def repair(self) -> None:
        """Undo all faults."""
        self._stop_calls()
        shutil.move(self._repository.parent / "vae", self._repository / "vae")
        shutil.rmtree(self._repository / "fc-ae" / "2")
        shutil.rmtree(self._repository / "large")
        port = self._killable.metrics_address.rpartition(":")[2]
        self._restarted.enter_context(running(GOLDEN, self._folder / "restarted.log", "--metrics-port", port))
        # Repaired by configuration: no GPU is expected any more.
        self._fallback.replace("--device", "cpu")

    @contextmanager
    def old_server(self) -> Iterator[LocalServer]:
        """One more server, which at the end is no longer scraped and then stops, like a pod in a rollout."""
        with running(GOLDEN, self._folder / "old.log") as old:
            self.scrape(old.metrics_address)
            yield old
            self.scrape()
            eventually(
                lambda: not self._watcher.query(f'up{{instance="{old.metrics_address}"}}'), 30, "its series are stale"
            )

    def scrape(self, *more: str) -> None:
        """Scrape all servers, and more addresses."""
        write_targets(self._folder, pods(*self._targets, *more))

    def scrape_nothing(self) -> None:
        """Remove all targets, as a wrong selector does."""
        write_targets(self._folder, [])

    def close(self) -> None:
        """Stop calls and servers."""
        self._stop_calls()
        self._restarted.close()

    def _stop_calls(self) -> None:
        self._over.set()
        for channel in self._channels:
            channel.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _calls(self, method: str, request: Message, pause_seconds: float) -> None:
        channel = grpc.insecure_channel(self._busy.address, [("grpc.use_local_subchannel_pool", 1)])
        self._channels.append(channel)
        call = getattr(autoencoder_pb2_grpc.AutoencoderServiceStub(channel), method)
        while not self._over.is_set():
            # A closed channel raises ValueError: the fault is being repaired.
            with suppress(grpc.RpcError, ValueError):
                call(request)
            self._over.wait(pause_seconds)

    def _flood(self) -> None:
        self._calls("Denoise", denoising("slow", 1024), 0.02)

    def _wait(self) -> None:
        self._calls("Denoise", denoising("late", 128), 0.05)

    def _drift(self) -> None:
        request = pb.EncodeRequest(model_name="fc-ae", images=images(pixels(64)))
        self._calls("Encode", request, 0.05)

    def _reconstruct(self) -> None:
        self._calls("Reconstruct", pb.ReconstructRequest(model_name="fc-ae", images=images(pixels(64))), 0.05)

    def _alarm(self) -> None:
        white = images(np.ones((16, 16, 16, 1), np.float32))
        self._calls("Detect", pb.DetectRequest(model_name="detector", images=white), 0.1)

    def _fail(self) -> None:
        white = images(np.ones((1, 32, 32, 1), np.float32))
        self._calls("Denoise", pb.DenoiseRequest(model_name="fragile", images=white), 0.1)


def pods(*addresses: str) -> list[dict]:
    """Targets with the labels of prometheus-operator: pod-0 for the first one, and so on."""
    labels = [{"namespace": NAMESPACE, "pod": f"pod-{number}"} for number in range(len(addresses))]
    return [{"targets": [address], "labels": each} for address, each in zip(addresses, labels, strict=True)]


def denoising(model: str, rows: int) -> pb.DenoiseRequest:
    batch = images(pixels(rows, (32, 32, 1)).astype(np.float32) / 255)
    return pb.DenoiseRequest(model_name=model, images=batch, image_format=pb.IMAGE_FORMAT_NONE)


@contextmanager
def faulty(folder: Path) -> Iterator[tuple[Faults, Prometheus]]:
    """Three servers, a Prometheus that scrapes them, and faults to inject."""
    repository = folder / "models"
    for copy in (repository, folder / "fallback"):
        shutil.copytree(GOLDEN, copy, ignore=shutil.ignore_patterns("*.py"))
    write_slow_denoiser(repository, layers=30)
    write_slow_denoiser(repository, "late")
    write_fragile_denoiser(repository)
    write_detector(repository, size=16)
    killable_port = str(free_port())
    with ExitStack() as stack:
        # The flood is a single caller, which a fair queue would keep from filling it enough for an alert.
        busy = stack.enter_context(
            running(repository, folder / "busy.log", "--poll-seconds", "0", "--concurrent-runs", "1", "--no-fair-queue")
        )
        killable = stack.enter_context(killable_server(folder / "killable.log", "--metrics-port", killable_port))
        fallback = Replaceable(folder)
        stack.callback(fallback.close)
        fallback.replace("--device", "auto")
        addresses = [each.metrics_address for each in (busy, killable, fallback.server)]
        watcher = stack.enter_context(prometheus(folder, pods(*addresses)))
        faults = Faults(folder, watcher, busy, killable, fallback)
        stack.callback(faults.close)
        yield faults, watcher


@contextmanager
def killable_server(log: Path, *flags: str) -> Iterator[LocalServer]:
    """A server that a fault may kill."""
    with ExitStack() as stack:
        server = stack.enter_context(running(GOLDEN, log, *flags))
        yield server
        # It need not stop cleanly.
        stack.pop_all()
        server.process.kill()
        server.process.wait()


class Replaceable:
    """A server on a machine whose GPUs onnxruntime cannot use; it can be restarted with other flags."""

    server: LocalServer

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "fallback"
        self._log = folder / "fallback.log"
        self._port = str(free_port())
        self._stack = ExitStack()

    def replace(self, *flags: str) -> None:
        """Stop it, and start it with other flags on the same metrics port."""
        self.close()
        environment = {"PYTHONPATH": str(CARD), "CUDA_VISIBLE_DEVICES": ""}
        flags = ("--metrics-port", self._port, "--poll-seconds", "0.5", *flags)
        self.server = self._stack.enter_context(running(self.repository, self._log, *flags, environment=environment))

    def close(self) -> None:
        """Stop it."""
        self._stack.close()
