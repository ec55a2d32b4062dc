"""`python -m server`: settings, signals, exit codes (0 stopped, 1 cannot start, 2 bad settings)."""

import os
import signal
import sys

# Products of a few rows gain nothing from threads, which spin beside the transport's; to be set before numpy comes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from pydantic import ValidationError
from pydantic_settings import SettingsError

from server.config import Config, explain
from server.log import start_log

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> int:
    """Run until SIGTERM or SIGINT."""
    try:
        config = Config(_cli_parse_args=True)  # pyright: ignore[reportCallIssue] (read from flags and environment)
    except (ValidationError, SettingsError) as error:
        print(f"python -m server: {explain(error)}", file=sys.stderr)
        return 2
    if not config.repository.is_dir():
        print(
            f"python -m server: --repository: wanted a folder of models, which may be empty, got {config.repository}, "
            "which is none: create it or name another",
            file=sys.stderr,
        )
        return 2
    start_log(config.log_level, config.log_format)
    return _serve(config)


def _serve(config: Config) -> int:
    # Blocked before any thread starts, which inherits that, and waited for below: a signal that the kernel gives to
    # another thread would not wake the main thread, and what comes during the start is not lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    # Not before the settings are right: onnxruntime and grpc take a while to load.
    from bundle.signing import KeyFileError  # noqa: PLC0415
    from server.app import App, RestError  # noqa: PLC0415
    from server.security import TokenFileError  # noqa: PLC0415
    from server.session import DeviceError  # noqa: PLC0415
    from server.tls import TlsError  # noqa: PLC0415
    from server.tracing import TracingError  # noqa: PLC0415
    from server.transport import BindError  # noqa: PLC0415

    try:
        app = App(config)
        line = app.start()
    except (BindError, DeviceError, KeyFileError, RestError, TlsError, TokenFileError, TracingError) as error:
        print(f"python -m server: {error}", file=sys.stderr)
        return 1
    print(line, flush=True)
    while signal.sigwait(_SIGNALS) == signal.SIGHUP:
        app.reload()
    app.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
