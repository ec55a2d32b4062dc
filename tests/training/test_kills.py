from pathlib import Path

from tests.training import kills


def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    deaths, differing = kills.compare(8, seed=1, folder=tmp_path)
    assert deaths >= 4
    assert not differing
