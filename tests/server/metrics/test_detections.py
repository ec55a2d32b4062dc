"""The numbers on the metrics page against what Detect found, by the default threshold."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import model_pb2

from tests.server import free_models
from tests.server.conftest import Served, images, metric, serving
from tests.server.metrics.test_registry import page

SIZE = 16


@pytest.fixture
def served(repository: Path) -> Iterator[Served]:
    free_models.write_detector(repository, "fixed", size=SIZE)
    free_models.write_detector(repository, "free")
    unknown = model_pb2.Detection()
    unknown.CopyFrom(free_models.DETECTION)
    for name in ("calibrated_on", "calibrated_height", "calibrated_width"):
        unknown.ClearField(name)
    free_models.write_detector(repository, "unknown", detection=unknown)
    with serving(repository, poll_seconds=0) as made:
        yield made


def counted(served: Served, name: str) -> tuple[float, ...]:
    """Normal, anomalous, and anomalous of another size."""
    detections = [
        metric(served, "autoencoder_detections_total", model=name, result=result) for result in ("normal", "anomalous")
    ]
    return *detections, metric(served, "autoencoder_unpromised_alarms_total", model=name)


def detect(served: Served, name: str, *scores: float, size: tuple[int, int] = (SIZE, SIZE), **more: float) -> None:
    batch = np.zeros((len(scores), *size, 1), np.float32)
    batch[:, 3, 4, 0] = np.sqrt(scores)
    served.stub.Detect(pb.DetectRequest(model_name=name, images=images(batch), **more))


@pytest.mark.parametrize("name", ["fixed", "free"])
def test_counters_stand_at_zero_from_the_load_on(served: Served, name: str) -> None:
    lines = page(served).splitlines()
    for result in ("normal", "anomalous"):
        assert f'autoencoder_detections_total{{model="{name}",result="{result}",version="1"}} 0.0' in lines
    unpromised = f'autoencoder_unpromised_alarms_total{{model="{name}",version="1"}} 0.0'
    assert (unpromised in lines) == (name == "free")
    assert metric(served, "autoencoder_false_alarm_rate_expected", model=name) == pytest.approx(0.01)
    assert metric(served, "autoencoder_false_alarm_rate_upper", model=name) == pytest.approx(0.02)


def test_an_idle_model_of_four_graphs_has_forty_series_at_most(served: Served) -> None:
    lines = [line for line in page(served).splitlines() if 'model="free"' in line]
    # Encode, decode and reconstruct beside detect, and four quantiles of the reconstruction error.
    assert len(lines) + 3 * 3 + 4 <= 40


@pytest.mark.parametrize("name", ["fixed", "free"])
def test_they_count_by_the_default_threshold_whatever_a_request_chose(served: Served, name: str) -> None:
    detect(served, name, 0.1, 0.7, 0.9)
    assert counted(served, name) == (1, 2, 0)
    detect(served, name, 0.1, 0.7, 0.9, threshold=0)
    assert counted(served, name) == (2, 4, 0)
    detect(served, name, 0.3, 0.7, false_alarm_rate=0.1)
    assert counted(served, name) == (3, 5, 0)
    assert metric(served, "autoencoder_anomaly_score_count", model=name) == 8
    assert metric(served, "autoencoder_anomaly_score_sum", model=name) == pytest.approx(4.4, rel=1e-5)


def test_alarms_of_another_size_are_counted_apart_too(served: Served) -> None:
    detect(served, "free", 0.1, 0.7, size=(SIZE, 50))
    assert counted(served, "free") == (1, 1, 1)


def test_nothing_is_promised_for_thresholds_of_unknown_origin(served: Served) -> None:
    detect(served, "unknown", 0.1, 0.7)
    assert counted(served, "unknown") == (1, 1, 1)
    assert 'autoencoder_false_alarm_rate_upper{model="unknown"' not in page(served)


def test_what_is_refused_is_not_counted(served: Served) -> None:
    with pytest.raises(Exception, match="expected a finite number"):
        detect(served, "fixed", 0.7, threshold=float("nan"))
    assert counted(served, "fixed") == (0, 0, 0)


def test_the_gauges_of_an_unloaded_version_go(served: Served) -> None:
    detect(served, "fixed", 0.7)
    served.app.manager.unload("fixed")
    assert 'autoencoder_false_alarm_rate_upper{model="fixed"' not in page(served)
    assert 'autoencoder_false_alarm_rate_upper{model="free"' in page(served)
    assert counted(served, "fixed") == (0, 1, 0)
