"""Autoscaling: the number of replicas from rows waiting, damped by stabilization windows."""

import math
import time
from collections import deque
from collections.abc import Callable

from deploy.ray.settings import ScalingSettings


class Autoscaler:
    """Horizontal autoscaling as in Kubernetes: rows waiting by rows per replica, with windows against flapping.

    More replicas only if that many were needed for the whole of `up_seconds`, fewer only if no more were needed for
    the whole of `down_seconds`.
    """

    def __init__(self, settings: ScalingSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._needs: deque[tuple[float, int]] = deque()
        self._start = clock()

    def count(self, current: int, rows: float) -> int:
        """How many replicas there should be, while `rows` rows wait in all of them."""
        settings, now = self.settings, self._clock()
        self._needs.append((now, math.ceil(rows / settings.rows)))
        longest = max(settings.up_seconds, settings.down_seconds)
        while self._needs[0][0] < now - longest:
            self._needs.popleft()
        up = min(need for at, need in self._needs if at >= now - settings.up_seconds)
        down = max(need for at, need in self._needs if at >= now - settings.down_seconds)
        age = now - self._start
        wanted = current
        if up > current and age >= settings.up_seconds:
            wanted = up
        elif down < current and age >= settings.down_seconds:
            wanted = down
        return max(settings.least, min(settings.most, wanted))
