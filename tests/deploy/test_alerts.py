"""Every alert fires once by a real fault and clears again: a real Prometheus scrapes real servers."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
import yaml
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc
from google.protobuf.message import Message
from onnx import helper, numpy_helper

from examples.local_server import LocalServer, running
from tests.server.conftest import copy_version, images, pixels, write_graph, write_slow_denoiser

from .conftest import GOLDEN, ROOT, component, free_port
from .monitoring import RULES, Prometheus, dashboard_queries, prometheus, until, write_targets

ALERTS = [
    rule["alert"]
    for path in RULES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
FLOOD_THREADS = 10
WAITING_THREADS = 3


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
    """What is done to the servers, and undone."""

    def __init__(self, folder: Path, busy: LocalServer, mortal: LocalServer, gpu: LocalServer) -> None:
        self._folder = folder
        self._repository = folder / "models"
        self._busy = busy
        self._mortal = mortal
        self._targets = [server.metrics_address for server in (busy, mortal, gpu)]
        self._over = threading.Event()
        self._channels: list[grpc.Channel] = []
        works = (
            *[self._flood] * FLOOD_THREADS,
            *[self._wait] * WAITING_THREADS,
            self._drift,
            self._reconstruct,
            self._fail,
        )
        self._threads = [threading.Thread(target=work) for work in works]
        self._revived = ExitStack()

    def inject(self) -> None:
        """Overload, drift, failing runs, a damaged version, a deleted model, a killed server."""
        for thread in self._threads:
            thread.start()
        shutil.move(self._repository / "vae", self._repository.parent / "vae")
        damaged = copy_version(self._repository, "fc-ae", 2)
        with (damaged / "encode.onnx").open("ab") as file:
            file.write(b"!")
        write_large_denoiser(self._repository)
        self._mortal.process.kill()

    def repair(self) -> None:
        """Undo all that."""
        self._stop_calls()
        shutil.move(self._repository.parent / "vae", self._repository / "vae")
        shutil.rmtree(self._repository / "fc-ae" / "2")
        shutil.rmtree(self._repository / "large")
        port = self._mortal.metrics_address.rpartition(":")[2]
        self._revived.enter_context(running(GOLDEN, self._folder / "revived.log", "--metrics-port", port))
        # The machine has no GPU after all.
        write_targets(self._folder, [{"targets": self._targets}])

    def close(self) -> None:
        """Stop what was started."""
        self._stop_calls()
        self._revived.close()

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
        self._calls("Denoise", denoising("late", 512), 0.05)

    def _drift(self) -> None:
        request = pb.EncodeRequest(model_name="fc-ae", images=images(pixels(64)))
        self._calls("Encode", request, 0.05)

    def _reconstruct(self) -> None:
        self._calls("Reconstruct", pb.ReconstructRequest(model_name="fc-ae", images=images(pixels(64))), 0.05)

    def _fail(self) -> None:
        white = images(np.ones((1, 32, 32, 1), np.float32))
        self._calls("Denoise", pb.DenoiseRequest(model_name="fragile", images=white), 0.1)


def denoising(model: str, rows: int) -> pb.DenoiseRequest:
    batch = images(pixels(rows, (32, 32, 1)).astype(np.float32) / 255)
    return pb.DenoiseRequest(model_name=model, images=batch, image_format=pb.IMAGE_FORMAT_NONE)


@contextmanager
def faulty(folder: Path) -> Iterator[tuple[Faults, Prometheus]]:
    """Three servers, a Prometheus that watches them, and what can befall them."""
    repository = folder / "models"
    shutil.copytree(GOLDEN, repository, ignore=shutil.ignore_patterns("*.py"))
    write_slow_denoiser(repository, layers=30)
    write_slow_denoiser(repository, "late")
    write_fragile_denoiser(repository)
    mortal_port = str(free_port())
    with ExitStack() as stack:
        busy = stack.enter_context(
            running(repository, folder / "busy.log", "--poll-seconds", "0.5", "--concurrent-runs", "1")
        )
        gpu = stack.enter_context(running(GOLDEN, folder / "gpu.log", "--device", "auto"))
        mortal = stack.enter_context(mortal_server(folder / "mortal.log", mortal_port))
        targets = [
            {"targets": [busy.metrics_address, mortal.metrics_address]},
            {"targets": [gpu.metrics_address], "labels": {"accelerator": "gpu"}},
        ]
        watcher = stack.enter_context(prometheus(folder, targets))
        faults = Faults(folder, busy, mortal, gpu)
        stack.callback(faults.close)
        yield faults, watcher


@contextmanager
def mortal_server(log: Path, metrics_port: str) -> Iterator[LocalServer]:
    """A server that may be killed."""
    with ExitStack() as stack:
        server = stack.enter_context(running(GOLDEN, log, "--metrics-port", metrics_port))
        yield server
        # Nobody minds that it does not stop in an orderly way.
        stack.pop_all()
        server.process.kill()
        server.process.wait()


@dataclass
class History:
    """Alerts that fired before, during and after the faults; what rules and dashboard said meanwhile."""

    before: set[str]
    seen: set[str]
    after: set[str]
    rules: list[dict]
    series: dict[str, int]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    component("prometheus")
    with faulty(tmp_path_factory.mktemp("alerts")) as (faults, watcher):
        until(lambda: len(watcher.query("autoencoder_model_ready")) >= 15, 30, "all targets are scraped")
        until(lambda: "AutoencoderCpuFallback" in watcher.firing(), 30, "the fallback is noticed")
        before = watcher.firing()
        faults.inject()
        seen: set[str] = set()
        series = dict.fromkeys(dashboard_queries(), 0)
        end = time.monotonic() + 100
        while not (seen == set(ALERTS) and all(series.values())) and time.monotonic() < end:
            seen |= watcher.firing()
            series |= {
                name: len(watcher.query(query)) for name, query in dashboard_queries().items() if not series[name]
            }
            time.sleep(0.1)
        rules = watcher.rules()
        faults.repair()
        end = time.monotonic() + 60
        while watcher.firing() and time.monotonic() < end:
            time.sleep(0.1)
        return History(before, seen, watcher.firing(), rules, series)


def test_a_healthy_service_raises_no_alarm(history: History) -> None:
    assert history.before == {"AutoencoderCpuFallback"}


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_fires_by_a_fault_and_clears(history: History, alert: str) -> None:
    assert alert in history.seen
    assert alert not in history.after


def test_every_rule_is_evaluated(history: History) -> None:
    assert len(history.rules) >= 20
    assert {rule["name"]: rule.get("lastError") for rule in history.rules if rule["health"] != "ok"} == {}


@pytest.mark.parametrize("query", dashboard_queries())
def test_the_dashboards_query_finds_series(history: History, query: str) -> None:
    assert history.series[query]


def test_rules_are_valid() -> None:
    subprocess.run([component("promtool"), "check", "rules", *map(str, RULES)], check=True, capture_output=True)


def test_rules_do_what_their_unit_tests_say() -> None:
    tests = sorted(map(str, (ROOT / "tests" / "deploy" / "rules").glob("*.yml")))
    assert tests
    done = subprocess.run([component("promtool"), "test", "rules", *tests], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
