"""A fake of NVIDIA's management library for tests without a card: two cards, one of them busy."""

from types import SimpleNamespace

MIB = 2**20
USED_BYTES = (512 * MIB, 2048 * MIB)
UTILIZATION_PERCENT = (0, 75)
# Cards that a test has made fail: no longer found, and divided into instances, which have no utilisation.
LOST: set[int] = set()
DIVIDED: set[int] = set()


class NVMLError(Exception):
    """What the library raises."""


def nvmlInit() -> None:  # noqa: N802 (the library's name, as all below)
    """The driver answers."""


def nvmlDeviceGetCount() -> int:  # noqa: N802
    return len(USED_BYTES)


def nvmlDeviceGetHandleByIndex(index: int) -> int:  # noqa: N802
    if index in LOST:
        raise NVMLError("GPU is lost")
    return index


def nvmlDeviceGetMemoryInfo(handle: int) -> SimpleNamespace:  # noqa: N802
    return SimpleNamespace(used=USED_BYTES[handle])


def nvmlDeviceGetUtilizationRates(handle: int) -> SimpleNamespace:  # noqa: N802
    if handle in DIVIDED:
        raise NVMLError("Not Supported")
    return SimpleNamespace(gpu=UTILIZATION_PERCENT[handle])
