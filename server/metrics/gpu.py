"""Memory use and utilisation of the GPUs, through NVIDIA's management library (NVML), if it is installed."""

import importlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

# nvidia-ml-py ships no types.
Nvml: TypeAlias = Any


def watch_gpus(registry: CollectorRegistry) -> int:
    """Add the gauges of every GPU and return the number of GPUs."""
    try:
        nvml: Nvml = importlib.import_module("pynvml")
    except ImportError:
        return 0
    try:
        nvml.nvmlInit()
        count = int(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError:
        # The library is installed, the driver is not.
        return 0
    if count:
        registry.register(GpuCollector(nvml, count))
    return count


class GpuCollector(Collector):
    """Queries the driver at every exposition."""

    def __init__(self, nvml: Nvml, count: int) -> None:
        self._nvml = nvml
        self._count = count

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Gauges per GPU, without those that the driver does not answer for."""
        nvml = self._nvml
        memory = GaugeMetricFamily("autoencoder_gpu_memory_used_bytes", "Memory in use.", labels=["gpu"])
        load = GaugeMetricFamily("autoencoder_gpu_utilization_ratio", "Time with a kernel running.", labels=["gpu"])
        for index in range(self._count):
            # A card may be lost, and one that is divided (MIG) has no utilisation: the page has everything else.
            with suppress(nvml.NVMLError):
                memory.add_metric([str(index)], nvml.nvmlDeviceGetMemoryInfo(self._card(index)).used)
            with suppress(nvml.NVMLError):
                load.add_metric([str(index)], nvml.nvmlDeviceGetUtilizationRates(self._card(index)).gpu / 100)
        yield memory
        yield load

    def _card(self, index: int) -> object:
        return self._nvml.nvmlDeviceGetHandleByIndex(index)
