"""One log line a request: failures at info, answers at debug; never what the images hold."""

import logging
import time

from server.call import Call

_LOGGER = logging.getLogger(__name__)
# A flood of refusals must not become a flood of lines.
_LINES_PER_SECOND = 100


class RequestLog:
    """Writes the lines of one server; a few too many or too few under a race do no harm."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def finished(self, call: Call, code: str, seconds: float) -> None:
        """Log a call that has ended."""
        level = logging.DEBUG if code == "OK" else logging.INFO
        if not _LOGGER.isEnabledFor(level) or (code != "OK" and not self._may_write()):
            return
        _LOGGER.log(level, "%s %s", call.method, code, extra={"fields": _fields(call, code, seconds)})

    def _may_write(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            if self._left_out:
                _LOGGER.info("%d lines of failed requests were left out", self._left_out)
            self._second, self._lines, self._left_out = second, 0, 0
        self._lines += 1
        if self._lines <= _LINES_PER_SECOND:
            return True
        self._left_out += 1
        return False


def _fields(call: Call, code: str, seconds: float) -> dict[str, str | int | float]:
    fields: dict[str, str | int | float] = {"request_id": call.request_id, "method": call.method, "code": code}
    if call.served is not None:
        fields |= {"model": call.served.name, "version": call.served.version}
    if call.entry is not None:
        fields |= {"rows": call.entry.count, "batch_size": call.batch_rows}
    if call.trace is not None:
        fields["trace_id"] = call.trace.trace_id
    if call.problem:
        fields["error"] = call.problem
    return fields | {
        "duration_ms": round(seconds * 1000, 3),
        "queue_ms": round(call.queue_seconds * 1000, 3),
        "run_ms": round(call.run_seconds * 1000, 3),
    }
