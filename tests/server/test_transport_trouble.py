"""Accidents on a transport's own thread, which is the only one that it has."""

from pathlib import Path

import pytest

from .conftest import copy_version, serving
from .test_repository import until, version


class Accident:
    """Quick work that fails in a way that nobody has thought of."""

    def __init__(self) -> None:
        self.happened = False

    def run_once(self) -> None:
        self.happened = True
        raise RuntimeError("an accident")


def test_an_accident_in_a_round_ends_nothing(
    repository: Path, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    copy_version(repository, "fc-ae", 1)
    with serving(repository, transport=transport, poll_seconds=0) as served:
        for _ in range(3):
            accident = Accident()
            served.app._dispatcher.add_ready(accident)
            assert version(served) == "1"
            until(lambda accident=accident: accident.happened)
        assert version(served) == "1"
    assert "an accident" in caplog.text
