"""`python -m bench.gpu`: checks of the server on this machine's CUDA card; writes docs/gpu.md."""

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.gpu import page
from bench.gpu.outcome import ROOT, Check, Outcome, Setting, Unavailable
from bench.machine import date_and_revision

QUERY = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if nothing failed or there is no card, 1 if a check failed, 2 if this Python cannot use the card."""
    options = parse(arguments)
    card = card_of_this_machine()
    if card is None and options.device == "cuda":
        notice = page.keep_or_begin(options.page or ROOT / "docs" / "gpu.md")
        print(f"gpu-check: no CUDA card found (nvidia-smi does not answer): nothing was checked; {notice}")
        return 0
    if options.device == "cuda" and not knows_cuda():
        print(
            f"gpu-check: {card} found, but the onnxruntime of {sys.executable} is built without CUDA: nothing was "
            "checked or written; `make gpu-check` makes an environment that has it",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        setting = Setting(options.repository.resolve(), Path(scratch), options.device, options.seconds)
        outcomes = run(checks(options.only), setting)
    target = options.page or (ROOT / "docs" / "gpu.md" if options.device == "cuda" and not options.only else None)
    if target:
        target.write_text(page.results(facts(card or "none: a trial of the checks on the CPU"), outcomes))
        print(target)
    return int(any(each.state == "failed" for each in outcomes))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--repository", type=Path, default=ROOT / "tests" / "golden", help="models to check")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each timed run")
    parser.add_argument("--page", type=Path, help="page to write (docs/gpu.md)")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="checks whose name contains one of these")
    # Tests the code of the checks without a card.
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def card_of_this_machine() -> str | None:
    """Name, driver and memory of the first card; None if the driver does not answer."""
    try:
        answer = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.splitlines()[0] if answer else None


def knows_cuda() -> bool:
    """Whether this Python's onnxruntime supports CUDA; without it no check would use the card."""
    import onnxruntime  # noqa: PLC0415 (as in `checks`)

    from bundle.runtime_options import PROVIDER_NAMES  # noqa: PLC0415 (likewise)

    return PROVIDER_NAMES["cuda"] in onnxruntime.get_available_providers()


def checks(only: Sequence[str] = ()) -> dict[str, Check]:
    """All checks by name, or those whose name contains one of the words."""
    # Imported only when a card is found: without one, nothing but Python need be installed.
    from bench.gpu import calls, cuda_unavailable, numerics  # noqa: PLC0415

    every = (
        calls.provider,
        numerics.parity,
        numerics.invariance,
        numerics.search,
        numerics.binding,
        calls.cuda_graphs,
        calls.throughput,
        calls.plateau,
        cuda_unavailable.missing_libraries,
        cuda_unavailable.no_memory_for_a_start,
        cuda_unavailable.full_card,
    )
    named = {each.__name__: each for each in every}
    return {name: each for name, each in named.items() if not only or any(part in name for part in only)}


def run(selected: Mapping[str, Check], setting: Setting) -> list[Outcome]:
    """Run the checks in turn and print each outcome at once; an exception is a failure."""
    outcomes: list[Outcome] = []
    for name, check in selected.items():
        try:
            found = check(setting)
        except Unavailable as reason:
            found = [Outcome(name, "skipped", str(reason))]
        except Exception as error:  # noqa: BLE001 (the other checks must still run)
            found = [Outcome(name, "failed", f"{type(error).__name__}: {' '.join(str(error).split())}")]
        for each in found:
            print(f"{each.state:<8}{each.check}: {each.sentence}", flush=True)
        outcomes += found
    return outcomes


def facts(card: str) -> dict[str, str]:
    """Facts about the run, for the page."""
    import onnxruntime  # noqa: PLC0415 (as in `checks`)

    return {
        "card, driver, memory": card,
        **date_and_revision(),
        "onnxruntime": onnxruntime.__version__,
        "command": f"`{shlex.join(['python', '-m', 'bench.gpu', *sys.argv[1:]])}`",
    }


if __name__ == "__main__":
    sys.exit(main())
