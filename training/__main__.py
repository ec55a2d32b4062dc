"""`python -m training RECIPE --data digits|mnist --out DIR` trains a recipe; `evaluate`, `attributes`, `judge`."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from training import cpu
from training.data import kinds
from training.errors import InputError, StoppedError, TrainingError
from training.recipe import load_recipe, summaries
from training.run.stop_request import StopRequest

USAGE_ERROR, FAILURE, INTERRUPTED = 2, 1, 130
OTHER_COMMANDS = ("attributes", "evaluate", "judge")


_OUT_OF_MEMORY = (
    "there is not enough memory; try a smaller run.batch_size, model or data.size; what was saved is kept, "
    "and --resume goes on with it if its settings are the same"
)
_AFTERWORD = (
    "The settings that --set takes: docs/training.md.",
    f"Other commands: {', '.join(OTHER_COMMANDS)}; each has a --help.",
)


def _parser() -> argparse.ArgumentParser:
    """The flags; every other setting is reached by --set."""
    flags = argparse.ArgumentParser(
        prog="python -m training",
        description="Train an autoencoder from a recipe.",
        epilog="\n".join(
            ["recipes:", *(f"  {name:14} {summary}" for name, summary in summaries().items()), "", *_AFTERWORD]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_argument("recipe", help="one of those below, or the path of a .toml file")
    unless = "default: what --data-dir holds; without it, the recipe's own or digits"
    flags.add_argument("--data", help=f"data set: {', '.join(kinds.KINDS)} ({unless})")
    flags.add_argument("--data-dir", type=Path, help="folder of the data set's files, or the .npz file")
    flags.add_argument(
        "--download", nargs="?", const="", metavar="URL", help="fetch missing IDX files from URL or the known mirrors"
    )
    flags.add_argument("--out", type=Path, required=True, help="the run's own folder")
    flags.add_argument("--epochs", type=int, help="default: the recipe's")
    flags.add_argument("--minutes", type=float, help="CPU minutes after which the run ends; default: the recipe's")
    flags.add_argument("--seed", type=int, help="default: the recipe's, 0")
    flags.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    again = flags.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in --out from its last save")
    again.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    flags.add_argument("--tensorboard", action="store_true", help="also write TensorBoard files")
    flags.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    flags.add_argument(
        "--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="any setting of the recipe; repeatable"
    )
    return flags


def settings(flags: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given, as settings."""
    run = {name: getattr(flags, name) for name in ("epochs", "minutes", "seed") if getattr(flags, name) is not None}
    given = {"kind": flags.data, "folder": flags.data_dir and str(flags.data_dir), "download": flags.download}
    data = {name: value for name, value in given.items() if value is not None}
    device = {"name": flags.device, **({"compile": True} if flags.compile else {})}
    output = {"tensorboard": True} if flags.tensorboard else {}
    return {"run": run, "data": data, "device": device, "output": output}


@contextmanager
def _stop_on_signals() -> Generator[StopRequest]:
    """What the first Ctrl-C or SIGTERM sets while steps run; at other times, and the second time, it interrupts."""
    stop = StopRequest()

    def ask(number: int, _frame: object) -> None:
        signal.signal(number, before[signal.Signals(number)])
        if not stop.noticed:
            raise KeyboardInterrupt
        stop.set()
        print(
            "stopping after the step or validation at hand; the same again stops at once", file=sys.stderr, flush=True
        )

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_training(flags: argparse.Namespace) -> str:
    """Train; the figures of the best checkpoint."""
    from training import checkpoint  # noqa: PLC0415 (loads PyTorch, for which --help need not wait: 3 s)
    from training.train import train  # noqa: PLC0415 (likewise)

    in_settings = [each.removeprefix("data.kind=").strip("\"'") for each in flags.set if each.startswith("data.kind=")]
    # The last one, as of every setting.
    flags.data = kinds.resolve([flags.data, *in_settings][-1], flags.data_dir)
    chosen = load_recipe(flags.recipe, flags.data, flags.set, settings(flags))
    try:
        with _stop_on_signals() as stop:
            best = train(chosen, flags.out, resume=flags.resume, overwrite=flags.overwrite, stop=stop)
    except KeyboardInterrupt:
        raise StoppedError("interrupted; what was saved is kept, and --resume goes on with it") from None
    metrics = checkpoint.read_meta(best)["metrics"]
    return f"{best}: " + ", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))


def _command(words: Sequence[str]) -> tuple[argparse.Namespace, Callable[[argparse.Namespace], str]]:
    """The flags of a command line, and what runs them."""
    if words and words[0] in OTHER_COMMANDS:
        from training.commands import COMMANDS  # noqa: PLC0415 (loads SciPy too, which training need not)

        make_parser, run = COMMANDS[words[0]]
        return make_parser().parse_args(words[1:]), run
    return _parser().parse_args(words), _run_training


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 on success, 2 for unusable input, 1 for a failed run, 130 if stopped."""
    flags, run = _command(list(sys.argv[1:] if arguments is None else arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cpu.keep_freed_memory()
    try:
        answer = run(flags)
    except InputError as error:
        return _complain(error, USAGE_ERROR)
    except StoppedError as error:
        return _complain(error, INTERRUPTED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except TrainingError as error:
        return _complain(error, FAILURE)
    except (MemoryError, RuntimeError) as error:
        if not cpu.is_out_of_memory(error):
            raise
        return _complain(_OUT_OF_MEMORY, FAILURE)
    # A path may hold bytes that are no text: the run is done, and must not fail at its last line.
    print(answer.encode(errors="backslashreplace").decode())
    return 0


def _complain(error: Exception | str, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


def _exit(code: int) -> NoReturn:
    """End; the others of a group without the interpreter's own end, during which a late thread of gloo may abort.

    Then torchrun would end the main process too, in the middle of its evaluation.
    """
    if os.environ.get("RANK", "0") == "0":
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _exit(main())
