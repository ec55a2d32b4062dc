"""Autoscaling: the number of replicas from rows waiting, damped by stabilization windows."""

import math
import time
from collections import deque
from collections.abc import Callable
from statistics import fmean

from deploy.ray.settings import ScalingSettings


class Autoscaler:
    """Horizontal autoscaling as in Kubernetes: rows waiting by rows per replica, with windows against flapping.

    More replicas if the rows of `up_seconds` need them on average, fewer only if at no moment of `down_seconds` more
    were needed: queues of a busy server are empty now and then.
    """

    def __init__(self, settings: ScalingSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._rows: deque[tuple[float, float]] = deque()
        self._start = clock()

    def count(self, current: int, rows: float) -> int:
        """How many replicas there should be, while `rows` rows wait in all of them."""
        settings, now = self.settings, self._clock()
        self._rows.append((now, rows))
        longest = max(settings.up_seconds, settings.down_seconds)
        while self._rows[0][0] < now - longest:
            self._rows.popleft()
        up = math.ceil(fmean(waiting for at, waiting in self._rows if at >= now - settings.up_seconds) / settings.rows)
        down = math.ceil(
            max(waiting for at, waiting in self._rows if at >= now - settings.down_seconds) / settings.rows
        )
        age = now - self._start
        wanted = current
        if up > current and age >= settings.up_seconds:
            wanted = up
        elif down < current and age >= settings.down_seconds:
            wanted = down
        return max(settings.least, min(settings.most, wanted))
