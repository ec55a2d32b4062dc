"""`python -m server`: settings, signals, exit codes (0 stopped, 1 cannot start, 2 bad settings, 3 cut short)."""

import logging
import os
import signal
import sys
import threading
import time

# Products of a few rows gain nothing from threads, which spin beside the transport's; to be set before numpy comes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from server.config import Config
from server.log import start_log
from server.runtime.malloc import tune
from server.settings import SettingsError

# Of its own it would be __main__, beside the others.
_LOGGER = logging.getLogger("server")
_PROGRAM = "python -m server"
_ENDS = (signal.SIGTERM, signal.SIGINT)
_SIGNALS = (*_ENDS, signal.SIGHUP)
_SAME_SIGNAL_SECONDS = 0.5
LAST_SECONDS = 10.0
"""Beyond lame duck and drain; what comes after them takes a few seconds at most."""


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
            f"{_PROGRAM}: --repository: expected a folder of models, which may be empty, got {config.repository}, "
            "which is none: create it or name another",
            file=sys.stderr,
        )
        return 2
    start_log(config.log_level, config.log_format)
    if unknown := Config.unknown(os.environ):
        _LOGGER.warning("%s: no such settings, ignored; docs/configuration.md has all", ", ".join(unknown))
    return _serve(config)


def _serve(config: Config) -> int:
    # Blocked before any thread starts, which inherits that, and waited for below: a signal that the kernel gives to
    # another thread would not wake the main thread, and what comes during the start is not lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    # Not before the settings are right: onnxruntime and grpc take a while to load.
    from bundle.signing import KeyFileError  # noqa: PLC0415
    from server.app import App, RestError  # noqa: PLC0415
    from server.calls.auth import TokenFileError  # noqa: PLC0415
    from server.calls.tracing import TracingError  # noqa: PLC0415
    from server.runtime.session import DeviceError  # noqa: PLC0415
    from server.transport import BindError  # noqa: PLC0415
    from server.transport.tls import TlsError  # noqa: PLC0415

    try:
        app = App(config)
        line = app.start()
    except (BindError, DeviceError, KeyFileError, RestError, TlsError, TokenFileError, TracingError) as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 1
    print(line, flush=True)
    while signal.sigwait(_SIGNALS) == signal.SIGHUP:
        app.reload()
    seconds = config.lame_duck_seconds + config.drain_seconds + LAST_SECONDS
    for cut in (_at_second_signal, threading.Timer(seconds, _end).run):
        threading.Thread(target=cut, daemon=True).start()
    if not app.stop():
        _end()
    return 0


def _at_second_signal() -> None:
    # `timeout`, for one, signals the process and then its group: that is one wish, not two.
    until = time.monotonic() + _SAME_SIGNAL_SECONDS
    while (left := until - time.monotonic()) > 0:
        signal.sigtimedwait(_ENDS, left)
    signal.sigwait(_ENDS)
    _end()


def _end() -> None:
    """End at once: at exit the interpreter would wait for a graph run that does not end."""
    _LOGGER.error("the server ends now, whatever is under way")
    logging.shutdown()
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
