"""Runs the zoo and writes docs/zoo.md: python -m tests.export.zoo.page"""

import platform
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tests.export.zoo.served import Outcome, judge
from tests.export.zoo.specimens import SPECIMENS, Specimen

PAGE = Path(__file__).parents[3] / "docs" / "zoo.md"
_HEAD = """# Zoo

Twenty architectures after published recipes, as their users write them, with random weights: through `export_module`
and every check of the gate, then served, and the answers compared with the module in float64 on photographs of
{asked}. The verdict expected of each was written down before the first
run, in `tests/export/zoo/specimens.py`. `make zoo` runs all and writes this page; `make test` runs three.

{right} of {all} as expected, on {date}, {machine}. Seconds are those of the whole gate, with other work on that
machine.

| name | recipe | expected | got | halo | tile | gate, s | largest error |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""
_TAIL = """
Halo and tile are pixels; two halos are those of the encoder or decoder, and of the reconstruction through both. The
largest error is that of any output of any graph on any input of the gate, from the module in float64; allowed is 1e-5 +
1e-4 of the reference. "Served whole" are graphs that look at the whole image, or compute with its size: a server
refuses images of them beyond `--max-untiled-pixels`. "Served at one size" are those with linear layers over the image.
"""


def page(outcomes: Mapping[str, Outcome]) -> str:
    """The page, of the specimens that were run."""
    run = [each for each in SPECIMENS if each.name in outcomes]
    head = _HEAD.format(
        asked="75 x 301 pixels (or of its one size)",
        right=sum(outcomes[each.name].is_as_expected(each) for each in run),
        all=len(run),
        date=datetime.now(UTC).date(),
        machine=_machine(),
    )
    tied = [f"{name} {each.tied}" for name, each in outcomes.items() if each.tied]
    note = f"\nNearly tied choices of an argmin, left out of the comparison: {'; '.join(tied)}.\n" if tied else ""
    return head + "".join(f"{_row(each, outcomes[each.name])}\n" for each in run) + _TAIL + note


def _row(specimen: Specimen, outcome: Outcome) -> str:
    recipe = " ".join((specimen.build.__doc__ or "").split()).rstrip(".")
    said = f": {_line(outcome.verdict)}" if specimen.refused else ""
    got = f"as expected{said}" if outcome.is_as_expected(specimen) else f"**{_line(outcome.verdict)}**"
    expected = f"refused for its {specimen.expected}" if specimen.refused else specimen.expected
    seconds = f"{outcome.seconds:.0f}" if outcome.seconds else ""
    error = f"{outcome.max_abs_error:.1e}" if outcome.max_abs_error else ""
    cells = (specimen.name, recipe, expected, got, outcome.halo, outcome.tile, seconds, error)
    return f"| {' | '.join(cells)} |"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}" if names else platform.machine()


def main() -> int:
    """Run all; 1 where one is not as expected."""
    outcomes: dict[str, Outcome] = {}
    for specimen in SPECIMENS:
        with tempfile.TemporaryDirectory() as folder:
            outcomes[specimen.name] = judge(specimen, Path(folder) / "models")
        print(_row(specimen, outcomes[specimen.name]), flush=True)  # noqa: T201 (a command)
    PAGE.write_text(page(outcomes))
    return 0 if all(outcomes[each.name].is_as_expected(each) for each in SPECIMENS) else 1


if __name__ == "__main__":
    sys.exit(main())
