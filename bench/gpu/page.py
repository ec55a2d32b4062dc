"""docs/gpu.md: the outcomes of the checks, or a note that they have not run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.gpu.outcome import Outcome

NOT_YET_RUN = "Status: not yet run."
HOW = """\
On a machine with an NVIDIA GPU and its driver (`nvidia-smi` works):

    make gpu-check                                                # writes this page
    make gpu-check GPU='--repository models --page /tmp/gpu.md'   # on models of your own

It creates two environments that must stay separate: `.venv` with onnxruntime, where the models are trained, and
`build/gpu` with onnxruntime-gpu (`pip install '.[server,gpu]'`), where the checks run. Without a GPU it installs
nothing and leaves this page unchanged. Exit code 1: a check failed; 2: its Python has another onnxruntime.
"""


def empty() -> str:
    """The page before the first run on a card."""
    return f"# Checks on a GPU\n\n{NOT_YET_RUN} No GPU was available.\n\n{HOW}"


def results(facts: Mapping[str, str], outcomes: Sequence[Outcome]) -> str:
    """The page after a run: facts by name, a row per check."""
    count = {state: sum(each.state == state for each in outcomes) for state in ("passed", "failed", "skipped")}
    lines = [
        "# Checks on a GPU",
        "",
        f"Status: {', '.join(f'{number} {state}' for state, number in count.items())}.",
        "",
    ]
    lines += ["| | |", "| --- | --- |", *(f"| {name} | {_cell(value)} |" for name, value in facts.items()), ""]
    lines += ["| check | result | |", "| --- | --- | --- |"]
    lines += [f"| {_cell(each.check)} | {each.state} | {_cell(each.sentence)} |" for each in outcomes]
    return "\n".join(lines) + f"\n\n## Running them\n\n{HOW}"


def keep_or_begin(page: Path) -> str:
    """Write the empty page unless one with results exists; say which."""
    if page.exists() and NOT_YET_RUN not in page.read_text():
        return f"{page} keeps the results of an earlier run"
    page.write_text(empty())
    return f"{page} says that they have not run yet"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
