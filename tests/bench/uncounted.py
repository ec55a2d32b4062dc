"""The server without metrics, drift and logs of requests: `make bench` shows what those cost."""

import sys

from server.__main__ import main
from server.calls.observer import CallObserver
from server.metrics.drift import Drift
from server.metrics.registry import RunSeries


def nothing(*_: object) -> None:
    """A no-op observer."""


if __name__ == "__main__":
    CallObserver.started = CallObserver.finished = nothing
    RunSeries.ran = RunSeries.dropped = nothing
    Drift.observer = nothing
    sys.exit(main())
