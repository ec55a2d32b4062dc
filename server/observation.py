"""What is noted of a call, in one place: metrics, a log line, a trace."""

import time

from server.call import Call
from server.metrics import Metrics
from server.request_log import RequestLog
from server.tracing import Tracer


class CallObserver:
    """Hears of every call when it comes in and when it has ended."""

    def __init__(self, metrics: Metrics, tracer: Tracer | None) -> None:
        self._metrics = metrics
        self._tracer = tracer
        self._log = RequestLog()

    def started(self, call: Call) -> None:
        """Note a call that has come in."""
        self._metrics.started(call.method)
        if self._tracer is not None:
            call.trace = self._tracer.begin(call, call.metadata)

    def finished(self, call: Call, code: str) -> None:
        """Note a call that has ended, whatever happened to it."""
        call.seconds = seconds = time.monotonic() - call.arrival
        served = call.served
        if served is None:
            self._metrics.finished(call.method, "", "", code, seconds)
        else:
            self._metrics.finished(call.method, served.name, served.version, code, seconds)
        self._log.finished(call, code, seconds)
        if call.trace is not None:
            call.trace.finish(call, code)
