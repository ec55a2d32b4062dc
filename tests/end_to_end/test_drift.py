"""Drift detection on a trained model: held-out digits raise no alarm, noise and photographs do."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from hourglass_client import Client
from prometheus_client.parser import text_string_to_metric_families
from sklearn.datasets import load_sample_images

import export.__main__
import training.__main__
from examples.local_server import LocalServer, running
from tests.deploy.monitoring import Prometheus, eventually, prometheus
from tests.end_to_end.conftest import TRANSPORTS
from tests.end_to_end.test_operations import page
from training.data.dataset import digits

pytestmark = pytest.mark.timeout(900)
MODELS = ("vae",)
ALARM = 0.01
SIGNALS = {"reconstruction": "autoencoder_reconstruction_error_count", "latent": "autoencoder_latent_distance_count"}
FIRING = 'ALERTS{alertname="AutoencoderDrift", alertstate="firing"}'
RATIOS = '{__name__=~"job_model_version:autoencoder_out_of_distribution_.*"}'
# The shortened alert looks at the last five seconds, and waits for five more.
CALM_SECONDS = 15
UNSEEN = 900


def moved_digits() -> np.ndarray:
    """(N, 28, 28, 1) uint8: each digit where it was, a pixel further right and one further down, in any order.

    Any part of them is like any other: those kept back, those learned from and those that quantiles come from.
    """
    source = digits()
    images = np.concatenate([split.images for split in (source.train, source.validation, source.test)])
    moves = [(0, 0), (0, 1), (1, 0)]
    # The margin of two pixels is empty: nothing comes in at the other side.
    everywhere = np.concatenate([np.roll(images, move, (1, 2)) for move in moves])
    return np.random.default_rng(0).permutation(everywhere)


def patches(count: int) -> np.ndarray:
    """(count, 28, 28, 1) uint8 pieces of photographs."""
    grey = np.concatenate([image.mean(axis=2) for image in load_sample_images().images]).astype(np.uint8)
    places = np.random.default_rng(0).integers(0, np.array(grey.shape) - 28, (count, 2))
    return np.stack([grey[row : row + 28, column : column + 28, None] for row, column in places])


@pytest.fixture(scope="module")
def sent() -> dict[str, np.ndarray]:
    """What callers send. The digits are kept back: no model has learned from them, no quantile comes from them."""
    return {
        "digits": moved_digits()[:UNSEEN],
        "noise": np.random.default_rng(0).integers(0, 256, (512, 28, 28, 1), dtype=np.uint8),
        "photographs": patches(512),
    }


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of the other digits."""
    folder = tmp_path_factory.mktemp("drift")
    np.savez(folder / "digits.npz", images=moved_digits()[UNSEEN:])
    for model in MODELS:
        run = str(folder / model)
        data = ["--data", "npz", "--data-dir", str(folder / "digits.npz")]
        assert training.__main__.main([model, *data, "--epochs", "1", "--out", run]) == 0
        assert export.__main__.main([run, "--repository", str(folder / "models")]) == 0
    return folder / "models"


@pytest.fixture(params=TRANSPORTS)
def server(repository: Path, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalServer]:
    with running(repository, tmp_path / "server.log", "--transport", request.param) as started:
        yield started


def counts(server: LocalServer, model: str) -> dict[str, tuple[float, float]]:
    """Rows outside and rows in all, by signal."""
    samples = [
        sample
        for family in text_string_to_metric_families(page(server, "/metrics"))
        for sample in family.samples
        if sample.labels.get("model") == model
    ]
    outside = {
        sample.labels["signal"]: sample.value
        for sample in samples
        if sample.name == "autoencoder_out_of_distribution_total"
    }
    total = {sample.name: sample.value for sample in samples}
    return {signal: (outside.get(signal, 0.0), total.get(name, 0.0)) for signal, name in SIGNALS.items()}


def use(client: Client, model: str, images: np.ndarray) -> None:
    """Have images encoded, and reconstructed."""
    client.encode(images, model=model)
    client.reconstruct(images, model=model, image_format="none")


def test_counters_tell_data_apart(server: LocalServer, sent: dict[str, np.ndarray]) -> None:
    with Client(server.address) as client:
        for model, (name, images) in itertools.product(MODELS, sent.items()):
            before = counts(server, model)
            use(client, model, images)
            after = counts(server, model)
            assert all(after[signal][1] - before[signal][1] == len(images) for signal in SIGNALS)
            shares = [(after[signal][0] - before[signal][0]) / len(images) for signal in SIGNALS]
            if name == "digits":
                assert max(shares) <= ALARM, (model, shares)
            else:
                assert max(shares) > ALARM, (model, name, shares)


@contextmanager
def callers(server: LocalServer, images: np.ndarray) -> Iterator[list[Exception]]:
    """Somebody sends these images again and again, all of them each time, to each model; what went wrong."""
    over, problems = Event(), list[Exception]()

    def call(model: str) -> None:
        with Client(server.address) as client:
            while not over.wait(0.1) and not problems:
                try:
                    use(client, model, images)
                except Exception as error:  # noqa: BLE001 (the test's own thread looks at it)
                    problems.append(error)

    threads = [Thread(target=call, args=(model,)) for model in MODELS]
    for thread in threads:
        thread.start()
    try:
        yield problems
    finally:
        over.set()
        for thread in threads:
            thread.join()


def alarmed(watcher: Prometheus) -> set[str]:
    """Models whose alert fires."""
    return {series["metric"]["model"] for series in watcher.query(FIRING)}


def ratios(watcher: Prometheus) -> list[float]:
    """What the rules make of each model and signal at present."""
    return [float(series["value"][1]) for series in watcher.query(RATIOS)]


def watched(watcher: Prometheus, server: LocalServer, images: np.ndarray, reached: Callable[[], bool]) -> None:
    """Send images until something shows."""
    with callers(server, images) as problems:
        eventually(lambda: problems or reached(), 90, f"{alarmed(watcher)} and {ratios(watcher)}")
    assert not problems


@pytest.mark.slow
def test_the_alert_tells_data_apart(repository: Path, sent: dict[str, np.ndarray], tmp_path: Path) -> None:
    with running(repository, tmp_path / "server.log") as server:
        targets = [{"targets": [server.metrics_address]}]
        with prometheus(tmp_path, targets) as watcher:
            eventually(lambda: watcher.query("autoencoder_model_ready"), 30, "the server is scraped")
            started = time.monotonic()
            largest = [0.0]

            def long_enough() -> bool:
                now = ratios(watcher)
                largest.append(max(now, default=0))
                return len(now) == len(MODELS) * len(SIGNALS) and time.monotonic() - started > CALM_SECONDS

            watched(watcher, server, sent["digits"], long_enough)
            assert max(largest) <= ALARM
            assert not {name for name, _ in watcher.fired(time.monotonic() - started)} & {"AutoencoderDrift"}
            for other in ("noise", "photographs"):
                watched(watcher, server, sent[other], lambda: alarmed(watcher) == set(MODELS))
                watched(watcher, server, sent["digits"], lambda: not alarmed(watcher))
