"""A fake of NVIDIA's management library for tests without a card: two cards, one of them busy."""

from types import SimpleNamespace

MIB = 2**20
USED_BYTES = (512 * MIB, 2048 * MIB)
UTILIZATION_PERCENT = (0, 75)


class NVMLError(Exception):
    """What the library raises."""


def nvmlInit() -> None:  # noqa: N802 (the library's name, as all below)
    """The driver answers."""


def nvmlDeviceGetCount() -> int:  # noqa: N802
    return len(USED_BYTES)


def nvmlDeviceGetHandleByIndex(index: int) -> int:  # noqa: N802
    return index


def nvmlDeviceGetMemoryInfo(handle: int) -> SimpleNamespace:  # noqa: N802
    return SimpleNamespace(used=USED_BYTES[handle])


def nvmlDeviceGetUtilizationRates(handle: int) -> SimpleNamespace:  # noqa: N802
    return SimpleNamespace(gpu=UTILIZATION_PERCENT[handle])
