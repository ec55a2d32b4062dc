"""What a fault does to callers with and without retries."""

import logging
import time
from collections.abc import Callable

from tests.deploy.cluster.cluster import Cluster
from tests.deploy.cluster.measure import Window

SETTLE_SECONDS = 2.0
LOG = logging.getLogger(__name__)


class Watch:
    """Faults one after the other, and what each did to callers with and without retries."""

    def __init__(self, cluster: Cluster, callers: dict[str, int]) -> None:
        self.callers = {kind: cluster.load(kind, count) for kind, count in callers.items()}
        for each in self.callers.values():
            each.wait_until_answered()
        # Until Envoy's first check of a first replica has passed, it has nowhere to send calls.
        self._start = time.time()

    def during(self, name: str, fault: Callable[[], float]) -> float:
        """Let it happen, and log what came of it."""
        start = time.time()
        seconds = fault()
        time.sleep(SETTLE_SECONDS)
        for kind, callers in self.callers.items():
            LOG.info("%s: back after %.1f s; %s: %s", name, seconds, kind, callers.window(start, time.time()))
        return seconds

    def whole(self, kind: str) -> Window:
        """What all calls of one kind came to since both kinds were first answered."""
        return self.callers[kind].window(self._start)

    def stop(self) -> None:
        for callers in self.callers.values():
            callers.stop()
        for kind in self.callers:
            LOG.info("all: %s: %s", kind, self.whole(kind))
