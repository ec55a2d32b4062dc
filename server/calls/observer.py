"""Observability of calls: metrics, a log line and a trace for each, in one place."""

import time
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import attrgetter

from server.calls.call import Call
from server.calls.request_log import RequestLog
from server.calls.tracing import Tracer
from server.metrics.registry import Metrics
from server.model_version import ModelVersion

_METHOD_AND_VERSION: Callable[[Call], tuple[str, ModelVersion | None]] = attrgetter("method", "served")


class CallObserver:
    """Records every call when it arrives and when it ends."""

    def __init__(self, metrics: Metrics, tracer: Tracer | None) -> None:
        self._metrics = metrics
        self._tracer = tracer
        self._log = RequestLog()

    def started(self, call: Call) -> None:
        """Record a call that has arrived."""
        metrics = self._metrics
        with metrics.lock:
            metrics.in_flight[call.method] += 1
        if self._tracer is not None:
            call.trace = self._tracer.begin(call, call.metadata)

    def finished(self, calls: Sequence[Call], code: str) -> None:
        """Record calls that have ended together, whatever their outcome."""
        now = time.monotonic()
        for (method, served), alike in groupby(calls, _METHOD_AND_VERSION):
            seconds: list[float] = []
            for call in alike:
                call.seconds = now - call.arrival
                seconds.append(call.seconds)
            name, version = ("", "") if served is None else (served.name, served.version)
            self._metrics.finished(method, name, version, code, seconds)
        if self._log.wants(code):
            for call in calls:
                self._log.finished(call, code)
        if self._tracer is not None:
            for call in calls:
                if call.trace is not None:
                    call.trace.finish(call, code)
