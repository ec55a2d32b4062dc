"""GPUs on the metrics page, with a stand-in for NVIDIA's library: a card that fails takes nothing else with it."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from server.metrics.gpu import watch_gpus
from server.metrics.page import MetricsPage

CARD = Path(__file__).parents[2] / "deploy" / "card"
MEMORY, LOAD = "autoencoder_gpu_memory_used_bytes", "autoencoder_gpu_utilization_ratio"


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(CARD)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    yield importlib.import_module("pynvml")
    sys.modules.pop("pynvml", None)


def shown(registry: CollectorRegistry) -> set[tuple[str, str]]:
    """Names and cards, as on the page."""
    lines = MetricsPage(registry).write("")[1].decode().splitlines()
    return {(line.partition("{")[0], line.split('"')[1]) for line in lines if not line.startswith("#")}


def test_a_card_that_fails_leaves_the_rest_of_the_page(nvml: Any) -> None:
    registry = CollectorRegistry()
    assert watch_gpus(registry) == 2
    assert shown(registry) == {(MEMORY, "0"), (LOAD, "0"), (MEMORY, "1"), (LOAD, "1")}
    nvml.DIVIDED.add(0)
    assert shown(registry) == {(MEMORY, "0"), (MEMORY, "1"), (LOAD, "1")}
    nvml.LOST.add(1)
    assert shown(registry) == {(MEMORY, "0")}
    nvml.LOST.clear()
    nvml.DIVIDED.clear()
    assert len(shown(registry)) == 4


def test_without_a_driver_there_are_no_cards(nvml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise nvml.NVMLError

    registry = CollectorRegistry()
    for function in ("nvmlDeviceGetCount", "nvmlInit"):
        monkeypatch.setattr(nvml, function, fail)
        assert watch_gpus(registry) == 0
    assert shown(registry) == set()
