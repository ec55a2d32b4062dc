"""How long Envoy takes to see another file of endpoints."""

import logging
import time
from pathlib import Path
from statistics import median

import pytest

from tests.deploy.envoy.proxy import envoy, publish

_LOGGER = logging.getLogger(__name__)
RENAMES = 60


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [2, 100])
def test_how_long_another_file_of_endpoints_takes_to_be_seen(tmp_path: Path, replicas: int) -> None:
    milliseconds: list[float] = []
    with envoy(tmp_path / "envoy") as proxy:
        for number in range(RENAMES):
            named = {f"127.1.{number}.{each}:9" for each in range(replicas)}
            # Not in step with whatever Envoy does at intervals.
            time.sleep(0.1 + 0.013 * (number % 7))
            publish(proxy.folder, *named)
            start = time.monotonic()
            while proxy.calls().keys() != named:
                assert time.monotonic() - start < 60
            milliseconds.append((time.monotonic() - start) * 1000)
    _LOGGER.info("%d replicas: ms, median %.1f, longest %.1f", replicas, median(milliseconds), max(milliseconds))
