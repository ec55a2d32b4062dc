"""Command line of export: flags only."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from export.errors import ExportError, InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 when a check refused, 2 when the input is unusable."""
    options = _parser().parse_args(arguments)
    try:
        return _export(options)
    except ExportError as error:
        print(f"export: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description="Export a checkpoint to a model repository.")
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint's or a run's folder")
    parser.add_argument("--repository", type=Path, required=True, metavar="DIR", help="the model repository")
    parser.add_argument("--name", help="of the model; the recipe's unless given")
    parser.add_argument("--version", type=int, help="a number from 1; the next free one unless given")
    return parser


def _export(options: argparse.Namespace) -> int:
    # Here, because torch takes seconds to import and other commands do without.
    from export import exporter, report  # noqa: PLC0415

    done = exporter.export(options.checkpoint, options.repository, options.name, options.version)
    print(report.table(done.model, done.verdict))
    print(f"{done.model.name} version {done.model.version} in {done.folder} after {done.seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
