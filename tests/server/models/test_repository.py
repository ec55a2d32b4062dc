"""What the repository on disk says: versions that the policy admits, and fingerprints that change with the files."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from server.models.repository import Repository
from tests.server.conftest import GOLDEN, copy_version

MODEL = GOLDEN / "vae" / "1" / "model.json"


@pytest.mark.parametrize(
    ("policy", "candidates", "newest_only"),
    [("latest", [10, 9, 2], True), ("all", [10, 9, 2], False), ("2,10,11", [10, 2], False)],
)
def test_policies(tmp_path: Path, policy: str, candidates: list[int], *, newest_only: bool) -> None:
    repository = Repository(tmp_path, policy)
    assert repository.candidates([2, 9, 10]) == candidates
    assert repository.newest_only == newest_only


def test_a_fingerprint_changes_with_the_files_that_count(tmp_path: Path) -> None:
    folder = copy_version(tmp_path, "vae", 1)
    repository = Repository(tmp_path, "latest")
    seen = [repository.fingerprint(("vae", 1))]
    file, other = folder / "encode.onnx", folder / "another.onnx"
    for change in (
        lambda: os.utime(file, ns=(1, 1)),
        lambda: file.write_bytes(b"another graph"),
        lambda: file.rename(other),
        lambda: file.symlink_to("nowhere/deeper") or file.unlink() or shutil.copy(other, file),
        lambda: (folder / "model.sig").write_bytes(b"signed"),
        lambda: (folder / "model.json").write_bytes(b"{}"),
        (folder / "model.json").unlink,
    ):
        change()
        assert repository.fingerprint(("vae", 1)) == repository.fingerprint(("vae", 1))
        assert repository.fingerprint(("vae", 1)) not in seen
        seen.append(repository.fingerprint(("vae", 1)))


def test_files_that_no_bundle_lists_are_not_looked_at(tmp_path: Path) -> None:
    """Sixty thousand of them cost nothing at a poll."""
    folder = copy_version(tmp_path, "vae", 1)
    (folder / "model.json").write_text('{"name": "vae"}')
    repository = Repository(tmp_path, "latest")
    before = repository.fingerprint(("vae", 1))
    (folder / "notes").mkdir()
    (folder / "notes" / "one.txt").touch()
    assert repository.fingerprint(("vae", 1)) == before
    assert len(before) == 2
    listed = [{"path": f"{number}.bin"} for number in range(500)]
    (folder / "model.json").write_text(json.dumps({**json.loads(MODEL.read_text()), "files": listed}))
    assert len(repository.fingerprint(("vae", 1))) <= 102


def test_what_cannot_be_looked_at_hides_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2):
        copy_version(tmp_path, "vae", number)
    (tmp_path / "zz").symlink_to("x" * 300)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "vae" / "3").symlink_to("y" * 300)
    (tmp_path / "vae" / "4").symlink_to("4")
    repository = Repository(tmp_path, "latest")
    for _ in range(3):
        found = {name: repository.versions(name, ()) for name in repository.look() or ()}
        repository.end_look()
        assert found == {"gone": [], "loop": [], "vae": [1, 2], "zz": []}
    assert [record.getMessage() for record in caplog.records] == [
        "gone is not served: cannot be read: No such file or directory",
        "loop is not served: cannot be read: Too many levels of symbolic links",
        "vae/3 is not served: cannot be read: File name too long",
        "vae/4 is not served: cannot be read: Too many levels of symbolic links",
        "zz is not served: cannot be read: File name too long",
    ]
    # What serves stays while it cannot be looked at, rather than count as deleted.
    assert repository.versions("vae", {3}) == [1, 2, 3]
    assert repository.versions("zz", {5}) == [5]
    assert repository.names() == ["vae"]


PRINT_LOOK = """
import os
import sys
from pathlib import Path
from server.models.repository import Repository
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
repository = Repository(Path(sys.argv[1]), "latest")
print({name: repository.versions(name, ()) for name in repository.look() or ()})
repository.end_look()
print(*map(": ".join, repository.misplaced), sep=", ")
"""


def test_folders_of_another_user_hide_nothing_else() -> None:
    with tempfile.TemporaryDirectory() as made:
        repository = Path(made) / "models"
        repository.parent.chmod(0o755)
        for number in (1, 2, 3):
            copy_version(repository, "vae", number)
        copy_version(repository, "fc-ae", 1)
        for private in ("vae/2", "fc-ae"):
            (repository / private).chmod(0)
        command = [sys.executable, "-c", PRINT_LOOK, str(repository)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for private in ("vae/2", "fc-ae"):
            (repository / private).chmod(0o755)
    assert done.stdout.splitlines() == [
        "{'fc-ae': [], 'vae': [1, 3]}",
        "fc-ae: cannot be read: Permission denied, vae/2: cannot be read: Permission denied",
    ], done.stderr


def test_a_lost_folder_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "models"
    repository = Repository(folder, "latest")
    for _ in range(3):
        assert repository.look() is None
    assert len(caplog.records) == 1
    assert "is not a directory" in caplog.text
    assert repository.problem == "is not a directory"
    folder.mkdir()
    assert repository.look() == []
    assert repository.problem == ""
    folder.rmdir()
    assert repository.look() is None
    assert len(caplog.records) == 2
    folder.symlink_to("x" * 300)
    assert repository.look() is None
    assert repository.problem == "cannot be read: File name too long"


def test_reasons_do_not_show_where_the_repository_lies(tmp_path: Path) -> None:
    reason = Repository(tmp_path, "latest").shorten(f"{tmp_path}/vae/1/model.json: expected JSON")
    assert reason == "vae/1/model.json: expected JSON"
