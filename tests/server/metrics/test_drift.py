"""From which share of rows on the alert speaks: not where chance alone makes it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from autoencoder.v1.model_pb2 import Model

from bundle import layout
from bundle.latents import LatentStatistics
from bundle.layout import LATENTS_FILE
from server.metrics.drift import Drift, alarm_share
from server.metrics.registry import Metrics
from tests.bundle.test_latents import fitted
from tests.server.conftest import GOLDEN, copy_version, metric, serving

MODELS = 4000


def statistics(held_out: float | None) -> LatentStatistics:
    known = LatentStatistics.from_bytes((GOLDEN / "vae" / "1" / LATENTS_FILE).read_bytes())
    return dataclasses.replace(known, held_out_rows=None if held_out is None else np.array(held_out))


@pytest.mark.parametrize("held_out", [50, 297, 600, 1000, 5000])
def test_one_model_in_a_thousand_is_blamed_for_nothing(held_out: int) -> None:
    errors = np.random.default_rng(0).random((MODELS, held_out))
    # Of numbers between 0 and 1 this is the share that lies beyond.
    beyond = 1 - np.quantile(errors, 0.999, axis=1)
    alarm = alarm_share(statistics(held_out))
    assert alarm >= 0.01
    # Of 4,000 models four are expected at most, more than fourteen are less likely than one in ten thousand.
    assert np.count_nonzero(beyond > alarm) <= 14


def test_few_images_are_the_reason() -> None:
    assert alarm_share(statistics(297)) == pytest.approx(0.0307, abs=0.0002)
    assert alarm_share(statistics(1)) == pytest.approx(0.999, abs=0.0001)


@pytest.mark.parametrize("held_out", [None, 1000, 9999, 60_000, 1e300, 0, -5])
def test_otherwise_it_is_one_in_a_hundred(held_out: float | None) -> None:
    assert alarm_share(statistics(held_out)) == 0.01
    assert alarm_share(None) == 0.01


def test_the_metrics_say_so(repository: Path) -> None:
    folder = copy_version(repository, "vae", 1)
    copy_version(repository, "fc-ae", 1)
    (folder / LATENTS_FILE).write_bytes(statistics(297).to_bytes())
    model = layout.read_model(folder)
    names = [file.path for file in model.files]
    del model.files[:]
    model.files.extend(layout.describe_files({name: (folder / name).read_bytes() for name in names}))
    (folder / layout.MODEL_FILE).write_bytes(layout.encode_model(model))
    with serving(repository, poll_seconds=0) as served:
        ratio = "autoencoder_out_of_distribution_alarm_ratio"
        assert metric(served, ratio, model="vae") == alarm_share(statistics(297))
        assert metric(served, ratio, model="fc-ae") == 0.01


def test_of_full_blocks_every_fourth_density_is_counted_and_none_is_infinite() -> None:
    levels = np.array([0.5, 0.999])
    known = dataclasses.replace(
        fitted(3)[0],
        quantile_levels=levels,
        reconstruction_error_quantiles=levels,
        latent_distance_quantiles=levels,
        negative_log_density_quantiles=np.array([4.0, 9.0]),
    )
    metrics, labels = Metrics(), ("m", "1")
    drift = Drift(metrics, Model(name="m", version="1"), known, lambda rows: [rows[:, 0]])
    observe = drift.observer("encode")
    assert observe is not None
    observe([np.full((1024, 3), -4, np.float32)])
    assert metrics.distances.series[labels].cumulative()[-1][1] == 256
    assert metrics.distances.series[labels].total == pytest.approx(256)
    observe([np.float32([[np.nan, 0, 0], [-np.inf, 0, 0], [np.inf, 0, 0], [-9.5, 0, 0], [-8.5, 0, 0]])])
    drift.flush()
    assert metrics.outliers[(*labels, "latent")] == 3
    assert np.isfinite(metrics.distances.series[labels].total)


def test_a_density_that_fails_fails_no_answer() -> None:
    def fail(rows: np.ndarray) -> list[np.ndarray]:
        raise RuntimeError(rows.shape)

    known = dataclasses.replace(fitted(3)[0], negative_log_density_quantiles=np.array([4.0, 8.0, 9.0]))
    metrics = Metrics()
    drift = Drift(metrics, Model(name="m", version="1"), known, fail)
    observe = drift.observer("encode")
    assert observe is not None
    observe([np.zeros((5, 3), np.float32)])
    drift.flush()
    assert not metrics.outliers
