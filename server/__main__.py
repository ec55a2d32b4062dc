"""`python -m server`: settings, signals, exit codes (0 stopped, 1 cannot start, 2 bad settings, 3 killed early)."""

import logging
import os
import signal
import sys
import threading
import time
from typing import NoReturn

# Products of a few rows gain nothing from threads, which would compete with the transport's. Set before numpy loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from server.config import Config
from server.log import start_log
from server.runtime.malloc import tune
from server.settings import SettingsError

# `__name__` would be "__main__", outside the "server" logger.
_LOGGER = logging.getLogger("server")
_PROGRAM = "python -m server"
_ENDS = (signal.SIGTERM, signal.SIGINT)
_SIGNALS = (*_ENDS, signal.SIGHUP)
_SAME_SIGNAL_SECONDS = 0.5
# How long another thread, such as one that parses a large message, may keep the transport's waiting for the GIL. A call
# waits for it several times. With 0.5 ms a graph of 0.2 ms on two threads is served an eighth slower.
_SWITCH_SECONDS = 0.002
LAST_SECONDS = 10.0
"""Time limit for the rest of a stop, after lame duck and drain, which takes a few seconds at most."""


def main() -> int:
    """Run until SIGTERM or SIGINT."""
    tune()
    try:
        config = Config.parse(_PROGRAM, sys.argv[1:], os.environ)
    except SettingsError as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 2
    if not config.repository.is_dir():
        print(
            f"{_PROGRAM}: --repository: {config.repository} is not a directory: "
            "create it (it may be empty) or name another",
            file=sys.stderr,
        )
        return 2
    # Blocked before any thread starts, because threads inherit the mask, and waited for in `_serve`: a signal that the
    # kernel gives to another thread would not wake the main thread. A signal during the start is not lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    start_log(config.log_level, config.log_format)
    if unknown := Config.unknown(os.environ):
        _LOGGER.warning("%s: unknown settings, ignored; docs/configuration.md lists all settings", ", ".join(unknown))
    return _serve(config)


def _serve(config: Config) -> int:
    # Imported only with valid settings, because onnxruntime and grpc take a while to load.
    from bundle.signing import KeyFileError  # noqa: PLC0415
    from server.app import App, RestError  # noqa: PLC0415
    from server.calls.auth import TokenFileError  # noqa: PLC0415
    from server.calls.tracing import TracingError  # noqa: PLC0415
    from server.runtime.session import DeviceError  # noqa: PLC0415
    from server.transport import BindError  # noqa: PLC0415
    from server.transport.tls import TlsError  # noqa: PLC0415

    try:
        app = App(config)
        line = app.start(lambda: not signal.sigpending().isdisjoint(_ENDS))
    except (BindError, DeviceError, KeyFileError, RestError, TlsError, TokenFileError, TracingError) as error:
        # Not a log line, and `sys.stderr` makes one of whatever is printed.
        print(f"{_PROGRAM}: {error}", file=sys.__stderr__)
        return 1
    print(line, flush=True)
    sys.setswitchinterval(_SWITCH_SECONDS)
    while signal.sigwait(_SIGNALS) == signal.SIGHUP:
        app.reload()
    seconds = config.lame_duck + config.drain_seconds + LAST_SECONDS
    for kill in (_exit_at_second_signal, threading.Timer(seconds, _exit_now).run):
        threading.Thread(target=kill, daemon=True).start()
    if not app.stop():
        _exit_now()
    return 0


def _exit_at_second_signal() -> None:
    # Some programs, such as `timeout`, signal the process and then its group: that counts as one signal.
    until = time.monotonic() + _SAME_SIGNAL_SECONDS
    while (left := until - time.monotonic()) > 0:
        signal.sigtimedwait(_ENDS, left)
    signal.sigwait(_ENDS)
    _exit_now()


def _exit_now() -> None:
    """Exit without waiting: the interpreter would wait for a graph run that does not end."""
    _LOGGER.error("exiting immediately; in-flight work is lost")
    _exit(3)


def _exit(code: int) -> NoReturn:
    """Exit without the interpreter's own end, in which a thread that is still in onnxruntime aborts the process."""
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    _exit(main())
