"""Generates the blocking client from the asyncio client; `--check` compares instead."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent / "hourglass_client"
SOURCE = PACKAGE / "aio.py"
TARGET = PACKAGE / "client.py"
HEADER = "# Generated from aio.py by client/unasync.py: edit aio.py and run `make unasync`.\n"

# Applied in this order. Where more than words differ, a module that both clients import holds a pair of names:
# `async_ordered_map` and `ordered_map`, `AsyncOutgoing` and `Outgoing`.
SUBSTITUTIONS = (
    # Docstrings.
    ("The client for asyncio.", "The client for blocking code."),
    ("Make it inside the event loop.", "Safe to share between threads."),
    ("A task of gRPC takes", "A thread of gRPC takes"),
    (r"^import asyncio\n", ""),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\bgrpc\.aio\b", "grpc"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\baiter\(", "iter("),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\basync_", ""),
)


def generate(source: str) -> str:
    """The text of the blocking client.

    Raises:
        ValueError: a substitution matches nothing, or a trace of asyncio is left.
    """
    text = source
    for pattern, replacement in SUBSTITUTIONS:
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        if not count:
            raise ValueError(f"nothing in {SOURCE.name} matches {pattern!r}: remove this substitution")
    if left := re.search(r"async|await|\baio\b", text, re.IGNORECASE):
        raise ValueError(f"no substitution for {text.splitlines()[text.count(chr(10), 0, left.start())].strip()!r}")
    return _formatted(HEADER + text)


def _formatted(text: str) -> str:
    """Shorter words may fit on fewer lines."""
    ruff = Path(sys.executable).with_name("ruff")
    arguments = [ruff, "format", "--stdin-filename", TARGET, "-"]
    return subprocess.run(arguments, input=text, check=True, capture_output=True, text=True).stdout  # noqa: S603 (our own tool)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the committed file differs, write nothing")
    fresh = generate(SOURCE.read_text())
    if not parser.parse_args().check:
        TARGET.write_text(fresh)
    elif TARGET.read_text() != fresh:
        sys.exit(f"{TARGET.name} differs from what {SOURCE.name} gives: run `make unasync`")


if __name__ == "__main__":
    main()
