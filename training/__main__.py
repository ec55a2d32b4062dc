"""`python -m training RECIPE --data digits|mnist --out DIR`: trains a recipe."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training import checkpoint, config
from training.errors import InputError, TrainingError
from training.train import train

USAGE_ERROR, FAILURE = 2, 1


def parser() -> argparse.ArgumentParser:
    """The flags; every other setting is reached by --set."""
    flags = argparse.ArgumentParser(prog="python -m training", description="Train an autoencoder from a recipe.")
    flags.add_argument("recipe", help=f"one of {', '.join(config.recipe_names())}, or the path of a .toml file")
    flags.add_argument("--data", default="digits", help="data set: digits or mnist (default: %(default)s)")
    flags.add_argument("--data-dir", type=Path, help="folder of the data set's files")
    flags.add_argument("--out", type=Path, required=True, help="the run's own folder")
    flags.add_argument("--epochs", type=int, help="default: the recipe's")
    flags.add_argument("--seed", type=int, help="default: the recipe's, 0")
    flags.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    flags.add_argument(
        "--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="any setting of the recipe; repeatable"
    )
    return flags


def settings(flags: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given, as settings."""
    run = {name: getattr(flags, name) for name in ("epochs", "seed") if getattr(flags, name) is not None}
    data = {"kind": flags.data, "folder": str(flags.data_dir or "")}
    return {"run": run, "data": data, "device": {"name": flags.device}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; 0 when all went well, 2 for unusable input, 1 for a run that failed."""
    flags = parser().parse_args(arguments)
    try:
        chosen = config.load(flags.recipe, flags.data, flags.set, settings(flags))
        best = train(chosen, flags.out)
    except InputError as error:
        return _complain(error, USAGE_ERROR)
    except TrainingError as error:
        return _complain(error, FAILURE)
    metrics = checkpoint.read_meta(best)["metrics"]
    print(f"{best}: " + ", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items())))
    return 0


def _complain(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
