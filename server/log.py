"""Logging to standard error, as text or JSON lines, with a rate limit; written by a thread, so that none waits."""

import io
import json
import logging
import os
import sys
import threading
import time
from collections import defaultdict, deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

from bundle.errors import printable

if TYPE_CHECKING:
    from types import TracebackType

LogFormat: TypeAlias = Literal["text", "json"]
ExceptionInfo: TypeAlias = "tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]"
# A flood of requests must not become a flood of lines.
_LINES_PER_SECOND = 100
# Lines that wait to be written while nobody reads them.
_MAX_WAITING_CHARACTERS = 1024 * 1024
_FLUSH_SECONDS = 2.0
_GATHER_SECONDS = 0.02
# An exception class of grpc's core, which this module does not load.
_DISCONNECT = "ExecuteBatchError"


def start_log(level: str, form: LogFormat) -> None:
    """Log to standard error: the server from `level` on, libraries from warnings on."""
    # Set before grpc is loaded: its core writes to the same descriptor, in a format of its own, and waits for it.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    handler = BackgroundHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(is_no_disconnect)
    handler.addFilter(FloodFilter())
    handler.addFilter(hide_bytes)
    # Libraries print tracebacks; threads print theirs.
    sys.stderr = LoggedStream(logging.getLogger("stderr"))
    expected = logging.getLevelNamesMapping()[level.upper()]
    # Without a handler Python would write library warnings about malformed requests unformatted and without a limit.
    logging.basicConfig(level=max(expected, logging.WARNING), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger("server").setLevel(expected)


class BackgroundHandler(logging.Handler):
    """Writes lines on a thread of its own: a pipe that nobody reads must not stop the server.

    Lines beyond the room for those that wait are lost; a later line says how many.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._characters = 0
        self._lost = 0
        self._writing = False
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 (logging's way: a bad record must not raise where it is logged)
            self.handleError(record)
            return
        with self._changed:
            if self._waiting and self._characters + len(line) > _MAX_WAITING_CHARACTERS:
                self._lost += 1
                return
            self._waiting.append(line)
            self._characters += len(line)
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything is written, for a limited time."""
        self._hurry.set()
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._writing), _FLUSH_SECONDS)
        self._hurry.clear()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
            # The lines of a busy moment cost one wake-up and one write.
            self._hurry.wait(_GATHER_SECONDS)
            with self._changed:
                lines, self._waiting = self._waiting, deque()
                self._characters = 0
                lost, self._lost = self._lost, 0
                self._writing = True
            if lost:
                lines.append(self.format(_loss(lost)))
            try:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # It was closed: there is no other place to say so.
                continue


def _loss(lines: int) -> logging.LogRecord:
    message = "%d log lines were lost, because standard error was not read"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (lines,), None)


class LoggedStream(io.TextIOBase):
    """A stream whose lines are logged as errors, for what is printed to standard error."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._rest = threading.local()

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, text: str, /) -> int:
        """Log the complete lines of this thread."""
        *lines, self._rest.text = (getattr(self._rest, "text", "") + text).split("\n")
        for line in filter(None, lines):
            self._logger.error("%s", line)
        return len(text)


def hide_bytes(record: logging.LogRecord) -> bool:
    """Replace bytes in a record by their number, and keep it: grpc logs metadata values that it cannot decode."""
    if isinstance(record.args, tuple) and any(isinstance(value, bytes) for value in record.args):
        # Of grpc's own code, and the same each time.
        record.exc_info = None
        record.args = tuple(f"{len(value)} bytes" if isinstance(value, bytes) else value for value in record.args)
    return True


def is_no_disconnect(record: logging.LogRecord) -> bool:
    """Whether a record is not grpc's error, with a traceback, that a caller left while its answer was sent."""
    error = record.exc_info[0] if record.exc_info else None
    return error is None or error.__name__ != _DISCONNECT


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
        # Text sent by clients must not start a new line or steer a terminal (log injection).
        record.message = printable(record.message)
        return super().formatMessage(record) + "".join(f" {key}={value!r}" for key, value in fields(record).items())

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 (logging's name)
        """The traceback; its last lines may quote a client."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


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
