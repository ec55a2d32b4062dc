"""The zoo: what the gate and the server make of architectures after published recipes; `make zoo` runs all of them."""

from pathlib import Path

import pytest

from tests.export.zoo.page import page
from tests.export.zoo.served import Outcome, judge
from tests.export.zoo.specimens import FIXED, SPECIMENS, TILED, WHOLE, Specimen

# A denoiser in tiles, a VAE with a spatial code, and one that is refused: all twenty take half an hour.
CHOSEN = {"dncnn", "resnet-vae", "float32-constant"}
DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.usefixtures("known_operators")
@pytest.mark.parametrize(
    "specimen", [each for each in SPECIMENS if each.name in CHOSEN], ids=lambda specimen: specimen.name
)
def test_the_verdict_is_the_expected_one(specimen: Specimen, tmp_path: Path) -> None:
    outcome = judge(specimen, tmp_path / "models")
    assert outcome.is_as_expected(specimen), outcome


def test_the_page_has_a_row_for_each() -> None:
    written = (DOCS / "zoo.md").read_text()
    for specimen in SPECIMENS:
        assert f"| {specimen.name} |" in written
    assert {each.expected for each in SPECIMENS} == {TILED, WHOLE, FIXED, "float32"}


def test_a_page_says_where_reality_differs() -> None:
    specimen = SPECIMENS[0]
    right = Outcome(TILED, 12.5, "24", "256", 2e-8, served_excess={"denoise": 0.01})
    assert f"| {TILED} | as expected | 24 | 256 | 12 | 2.0e-08 |" in page({specimen.name: right})
    text = page({specimen.name: Outcome("refused by the check of numbers")})
    assert "**refused by the check of numbers**" in text
    assert "0 of 1 as expected" in text
