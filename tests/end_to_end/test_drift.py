"""A trained model hears of data that it did not learn from: digits, then noise, then photographs."""

import numpy as np
import pytest
from hourglass_client import Client
from prometheus_client.parser import text_string_to_metric_families
from sklearn.datasets import load_sample_images

from examples.local_server import LocalServer

from .conftest import Journey
from .test_operations import page

ALARM = 0.01
SIGNALS = {"reconstruction": "autoencoder_reconstruction_error_count", "latent": "autoencoder_latent_distance_count"}


def patches(count: int) -> np.ndarray:
    """(count, 28, 28, 1) uint8 pieces of photographs."""
    grey = np.concatenate([image.mean(axis=2) for image in load_sample_images().images]).astype(np.uint8)
    places = np.random.default_rng(0).integers(0, np.array(grey.shape) - 28, (count, 2))
    return np.stack([grey[row : row + 28, column : column + 28, None] for row, column in places])


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


@pytest.mark.parametrize("model", ["fc-ae", "vae"])
def test_counters_tell_data_apart(server: LocalServer, client: Client, journey: Journey, model: str) -> None:
    family = {"fc-ae": "ae", "vae": "vae"}[model]
    sent = {
        "digits": journey.checkpoint(family).reference.images,
        "noise": np.random.default_rng(0).integers(0, 256, (512, 28, 28, 1), dtype=np.uint8),
        "photographs": patches(512),
    }
    shares: dict[str, dict[str, float]] = {}
    for name, images in sent.items():
        before = counts(server, model)
        client.encode(images, model=model)
        client.reconstruct(images, model=model, image_format="none")
        after = counts(server, model)
        shares[name] = {
            signal: (after[signal][0] - before[signal][0]) / (after[signal][1] - before[signal][1])
            for signal in SIGNALS
        }
        assert after["latent"][1] - before["latent"][1] == len(images)
    assert max(shares["digits"].values()) <= ALARM
    assert max(shares["noise"].values()) > ALARM
    assert max(shares["photographs"].values()) > ALARM
