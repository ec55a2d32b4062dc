"""Request log: one line per request, failures at info, answers at debug; never the content of images."""

import logging

from server.calls.call import Call
from server.log import LineLimit

_LOGGER = logging.getLogger(__name__)


class RequestLog:
    """Writes the request log of one server."""

    def __init__(self) -> None:
        self._limit = LineLimit()

    def wants(self, code: str) -> bool:
        """Whether calls that ended with this code are logged."""
        return _LOGGER.isEnabledFor(_level(code))

    def finished(self, call: Call, code: str) -> None:
        """Log a call that has ended."""
        # Checked before the line is formatted: a refusal costs less than that.
        if code == "OK" or self._may_write():
            _LOGGER.log(_level(code), "%s %s", call.method, code, extra={"fields": _fields(call, code)})

    def _may_write(self) -> bool:
        if left_out := self._limit.left_out():
            _LOGGER.info("%d lines of failed requests were left out", left_out)
        return self._limit.allows()


def _level(code: str) -> int:
    return logging.DEBUG if code == "OK" else logging.INFO


def _fields(call: Call, code: str) -> dict[str, str | int | float]:
    fields: dict[str, str | int | float] = {"request_id": call.request_id, "method": call.method, "code": code}
    if call.peer:
        fields["peer"] = call.peer
    if call.served is not None:
        fields |= {"model": call.served.name, "version": call.served.version}
    if call.entry is not None:
        fields |= {"rows": call.entry.count, "batch_size": call.batch_rows}
    if call.trace is not None:
        fields["trace_id"] = call.trace.trace_id
    if call.problem:
        fields["error"] = call.problem
    return fields | {
        "duration_ms": round(call.seconds * 1000, 3),
        "queue_ms": round(call.queue_seconds * 1000, 3),
        "run_ms": round(call.run_seconds * 1000, 3),
    }
