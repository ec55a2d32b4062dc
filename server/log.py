"""Log lines on standard error, for people or for machines."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TypeAlias

LogFormat: TypeAlias = Literal["text", "json"]


def start_log(level: str, form: LogFormat) -> None:
    """Send the server's log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger("server")
    root.handlers = [handler]
    root.propagate = False
    root.setLevel(level.upper())


class TextFormatter(logging.Formatter):
    """One line a record, its fields behind the text; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """The line."""
        # What callers send must not begin a line of its own.
        record.message = record.message.replace("\n", "\\n").replace("\r", "\\r")
        return super().formatMessage(record) + "".join(f" {key}={value!r}" for key, value in fields(record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields(record),
        }
        if record.exc_info is not None:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def fields(record: logging.LogRecord) -> dict[str, str | int | float]:
    """What was logged beside the text, under `extra={"fields": …}`."""
    return getattr(record, "fields", {})
