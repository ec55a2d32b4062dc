"""The wait after replicas that fail before they are ready."""

from deploy.ray.controller import backoff_seconds


def test_the_wait_doubles_up_to_its_limit_whatever_the_number_of_failures() -> None:
    assert [backoff_seconds(failures) for failures in (0, 1, 2, 5, 5_000)] == [1, 2, 4, 30, 30]
