"""Generates the blocking client from the asyncio client; `--check` compares instead."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent / "hourglass_client"
# What each module for asyncio becomes.
TARGETS = {"aio.py": "client.py", "async_connection.py": "connection.py"}
HEADER = "# Generated from {0} by client/unasync.py: edit {0} and run `make unasync`.\n"

# Applied in this order. Where more than words differ, a module that both clients import holds a pair of names:
# `async_ordered_map` and `ordered_map`, `AsyncOutgoing` and `Outgoing`.
SUBSTITUTIONS = (
    # Docstrings.
    ("The client for asyncio.", "The client for blocking code."),
    ("The connection of the asyncio client", "The connection of the blocking client"),
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


def generate(sources: dict[str, str]) -> dict[str, str]:
    """The modules of the blocking client by name, of those of the asyncio client.

    Raises:
        ValueError: a substitution matches nothing, or a trace of asyncio is left.
    """
    texts = dict(sources)
    for pattern, replacement in SUBSTITUTIONS:
        found = {name: re.subn(pattern, replacement, text, flags=re.MULTILINE) for name, text in texts.items()}
        if not any(count for _, count in found.values()):
            raise ValueError(f"nothing in {' or '.join(sources)} matches {pattern!r}: remove this substitution")
        texts = {name: text for name, (text, _) in found.items()}
    return {TARGETS[name]: _formatted(TARGETS[name], HEADER.format(name) + _checked(texts[name])) for name in sources}


def _checked(text: str) -> str:
    if left := re.search(r"async|await|\baio\b", text, re.IGNORECASE):
        raise ValueError(f"no substitution for {text.splitlines()[text.count(chr(10), 0, left.start())].strip()!r}")
    return text


def _formatted(name: str, text: str) -> str:
    """Shorter words may fit on fewer lines, and names sort otherwise."""
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format"]):
        arguments = [Path(sys.executable).with_name("ruff"), *command, "--stdin-filename", PACKAGE / name, "-"]
        done = subprocess.run(arguments, input=text, check=True, capture_output=True, text=True)  # noqa: S603 (our own tool)
        text = done.stdout
    return text


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if a committed file differs, write nothing")
    check = parser.parse_args().check
    fresh = generate({name: (PACKAGE / name).read_text() for name in TARGETS})
    for source, target in TARGETS.items():
        if not check:
            (PACKAGE / target).write_text(fresh[target])
        elif (PACKAGE / target).read_text() != fresh[target]:
            sys.exit(f"{target} differs from what {source} gives: run `make unasync`")


if __name__ == "__main__":
    main()
