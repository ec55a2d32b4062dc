from pathlib import Path

import pytest

from tests.training import kill_points


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    ends, differing = kill_points.compare(8, seed=2, folder=tmp_path)
    # Of these eight lives one may die before it trains, and one at the end.
    assert ends["in training"] + ends["in a save"] >= 6
    assert not differing
