"""What the repository on disk says: versions that the policy admits, and fingerprints that change with the files."""

import os
from pathlib import Path

import pytest

from server.models.repository import Repository, fingerprint_of


@pytest.mark.parametrize(
    ("policy", "candidates", "newest_only"),
    [("latest", [10, 9, 2], True), ("all", [10, 9, 2], False), ("2,10,11", [10, 2], False)],
)
def test_policies(tmp_path: Path, policy: str, candidates: list[int], *, newest_only: bool) -> None:
    repository = Repository(tmp_path, policy)
    assert repository.candidates([2, 9, 10]) == candidates
    assert repository.newest_only == newest_only


def test_fingerprints(tmp_path: Path) -> None:
    seen = [fingerprint_of(tmp_path)]
    file = tmp_path / "encode.onnx"
    for change in (
        lambda: file.write_bytes(b"graph"),
        lambda: os.utime(file, ns=(1, 1)),
        lambda: file.write_bytes(b"another graph"),
        lambda: file.rename(tmp_path / "decode.onnx"),
        lambda: file.symlink_to("nowhere"),
    ):
        change()
        assert fingerprint_of(tmp_path) == fingerprint_of(tmp_path)
        assert fingerprint_of(tmp_path) not in seen
        seen.append(fingerprint_of(tmp_path))
    assert fingerprint_of(tmp_path / "none") == seen[0]


def test_a_lost_folder_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "models"
    repository = Repository(folder, "latest")
    for _ in range(3):
        assert not repository.exists()
    assert len(caplog.records) == 1
    assert "is not a directory" in caplog.text
    folder.mkdir()
    assert repository.exists()
    folder.rmdir()
    assert not repository.exists()
    assert len(caplog.records) == 2


def test_reasons_do_not_show_where_the_repository_lies(tmp_path: Path) -> None:
    reason = Repository(tmp_path, "latest").shorten(f"{tmp_path}/vae/1/model.json: expected JSON")
    assert reason == "vae/1/model.json: expected JSON"
