"""Memory use and utilisation of the GPUs, through NVIDIA's management library (NVML), if it is installed."""

import importlib
from collections.abc import Iterator
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
    except nvml.NVMLError:
        # The library is installed, the driver is not.
        return 0
    count = int(nvml.nvmlDeviceGetCount())
    if count:
        registry.register(GpuCollector(nvml))
    return count


class GpuCollector(Collector):
    """Queries the driver at every exposition."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Gauges per GPU."""
        nvml = self._nvml
        memory = GaugeMetricFamily("autoencoder_gpu_memory_used_bytes", "Memory in use.", labels=["gpu"])
        load = GaugeMetricFamily("autoencoder_gpu_utilization_ratio", "Time with a kernel running.", labels=["gpu"])
        for index in range(nvml.nvmlDeviceGetCount()):
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            memory.add_metric([str(index)], nvml.nvmlDeviceGetMemoryInfo(device).used)
            load.add_metric([str(index)], nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100)
        yield memory
        yield load
