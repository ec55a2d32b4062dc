"""Logging to standard error, as text or JSON lines, with a rate limit."""

import json
import logging
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import Literal, TypeAlias

LogFormat: TypeAlias = Literal["text", "json"]
# A flood of requests must not become a flood of lines.
_LINES_PER_SECOND = 100


def start_log(level: str, form: LogFormat) -> None:
    """Log to standard error: the server from `level` on, libraries from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(FloodFilter())
    expected = logging.getLevelNamesMapping()[level.upper()]
    # Without a handler Python would write library warnings about malformed requests unformatted and without a limit.
    logging.basicConfig(level=max(expected, logging.WARNING), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger("server").setLevel(expected)


class LineLimit:
    """Rate limit of lines per second; not exact when threads race, which does no harm."""

    def __init__(self) -> None:
        self._second: int = 0
        self._lines = 0
        self._left_out = 0

    def allows(self) -> bool:
        """Whether a line may be written now."""
        self._lines += 1
        allowed = self._lines <= _LINES_PER_SECOND
        self._left_out += not allowed
        return allowed

    def left_out(self) -> int:
        """Start a new second if one has passed, and return the number of lines left out until then."""
        second = int(time.monotonic())
        if second == self._second:
            return 0
        left_out = self._left_out
        self._second, self._lines, self._left_out = second, 0, 0
        return left_out


class FloodFilter(logging.Filter):
    """Limits the lines per second of each place in the code; the next second reports how many were left out."""

    def __init__(self) -> None:
        super().__init__()
        self._limits: defaultdict[object, LineLimit] = defaultdict(LineLimit)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written; debug lines are not limited."""
        if record.levelno <= logging.DEBUG:
            return True
        limit = self._limits[record.pathname, record.lineno]
        if left_out := limit.left_out():
            record.msg = f"{record.msg} ({left_out} such lines were left out)"
        return limit.allows()


class TextFormatter(logging.Formatter):
    """One line per record, with its fields after the message; a traceback follows on separate lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """The line."""
        # Text sent by clients must not start a new line (log injection).
        record.message = record.message.replace("\n", "\\n").replace("\r", "\\r")
        return super().formatMessage(record) + "".join(f" {key}={value!r}" for key, value in fields(record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def fields(record: logging.LogRecord) -> dict[str, str | int | float]:
    """The fields logged with the message, under `extra={"fields": …}`."""
    return getattr(record, "fields", {})
