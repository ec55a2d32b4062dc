"""The server with nothing counted, compared or logged of a request: `make bench` shows what that costs."""

import sys

from server.__main__ import main
from server.calls.observer import CallObserver
from server.metrics.drift import Drift
from server.metrics.registry import RunSeries


def nothing(*_: object) -> None:
    """What is told to this is forgotten."""


if __name__ == "__main__":
    CallObserver.started = CallObserver.finished = nothing
    RunSeries.ran = RunSeries.dropped = nothing
    Drift.observer = nothing
    sys.exit(main())
