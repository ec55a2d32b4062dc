"""When a batch leaves."""

import time

import pytest

from server.batching.gather import GatherPolicy, seconds_to_fill

POLICY = GatherPolicy(lone_turns=2, quiet_turns=5, max_turns=64)


@pytest.mark.parametrize(
    ("turns", "quiet_turns", "arrivals", "leaves"),
    [
        (1, 1, 1, False),
        (2, 2, 1, True),
        (2, 2, 2, False),
        (9, 4, 2, False),
        (9, 5, 2, True),
        (63, 1, 9, False),
        (64, 1, 9, True),
    ],
)
def test_batch_leaves_after_quiet_turns_or_many(turns: int, quiet_turns: int, arrivals: int, *, leaves: bool) -> None:
    assert POLICY.leaves(turns, quiet_turns, arrivals) is leaves


@pytest.mark.parametrize(("rows", "seconds_left"), [(0, 9), (8, 9), (9, 9), (4, -1)])
def test_empty_full_and_late_batches_do_not_wait(rows: int, seconds_left: float) -> None:
    assert seconds_to_fill(rows, 8, time.monotonic() + seconds_left) == 0


def test_batch_with_room_waits_until_its_window_ends() -> None:
    assert 8 < seconds_to_fill(4, 8, time.monotonic() + 9) <= 9
