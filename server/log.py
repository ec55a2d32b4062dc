"""Log lines on standard error."""

import logging
import sys


def start_log(level: str) -> None:
    """Send the server's log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("server")
    root.handlers = [handler]
    root.propagate = False
    root.setLevel(level.upper())
