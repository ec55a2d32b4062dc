"""Labels such as stable and canary, which move while the server runs."""

import time
from pathlib import Path

import grpc
import pytest

from tests.server.conftest import Served, copy_version, serving
from tests.server.models.test_manager import FAST_POLL, eventually, version


def test_labels_move_between_loaded_versions_only(repository: Path) -> None:
    for number in (1, 2):
        copy_version(repository, "fc-ae", number)
    labels = repository / "fc-ae" / "labels.json"
    labels.write_text('{"stable": 1, "canary": 2}')
    with serving(repository, versions="all", **FAST_POLL) as served:
        assert (version(served, "stable"), version(served, "canary")) == ("1", "2")
        # To a version that is not there: stays. The other one follows: promoted, then rolled back.
        labels.write_text('{"stable": 2, "canary": 9}')
        eventually(lambda: version(served, "stable") == "2")
        assert version(served, "canary") == "2"
        labels.write_text("{stable")
        time.sleep(0.2)
        assert version(served, "stable") == "2"
        labels.write_text('{"stable": 1}')
        eventually(lambda: version(served, "stable") == "1")
        with pytest.raises(grpc.RpcError) as failed:
            version(served, "canary")
        assert failed.value.code() is grpc.StatusCode.NOT_FOUND
        assert "stable" in failed.value.details()


def test_wrong_labels_are_logged_once_until_they_change(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy_version(repository, "fc-ae", 1)
    labels = repository / "fc-ae" / "labels.json"
    labels.write_text("{stable")

    def logged() -> list[str]:
        return [
            record.getMessage().partition(": ")[2] for record in caplog.records if "labels.json" in record.getMessage()
        ]

    def look(served: Served) -> None:
        # Each load reads the repository again.
        for _ in range(5):
            assert served.app.manager.load("fc-ae") is None

    with serving(repository, poll_seconds=0) as served:
        look(served)
        assert len(logged()) == 1
        labels.write_text('{"stable": 7, "canary": 8}')
        look(served)
        advice = "serve it too, as --versions all does, or drop the label"
        assert logged()[1:] == [
            f"label {label} points at version {v}, which is not loaded: {advice}"
            for label, v in (("stable", 7), ("canary", 8))
        ]
        labels.write_text('{"stable": 1}')
        look(served)
        assert version(served, "stable") == "1"
        labels.write_text("{stable")
        look(served)
        assert len(logged()) == 4
