"""Memory after loading."""

import re
from pathlib import Path

import numpy as np

from server.memory import hand_back


def resident_kib() -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def test_freed_memory_goes_back() -> None:
    # Blocks below the threshold at which the C library gives memory back by itself.
    blocks = [np.ones(8_000) for _ in range(1000)]
    keeper = np.ones(8_000)
    held = resident_kib()
    del blocks
    hand_back()
    assert resident_kib() < held - 30_000
    assert keeper.all()
