import hashlib
import json
import os
from pathlib import Path

import pytest

from bundle import layout
from deploy.batch.errors import InputError
from deploy.batch.model import Model
from tests.deploy.batch.conftest import VAE

MOST = 2**31


def test_carries_every_file_and_names_the_bundle_by_its_description(tmp_path: Path) -> None:
    model = Model.read(str(VAE), MOST)
    described = (VAE / layout.MODEL_FILE).read_bytes()
    assert (model.name, model.version, model.sha256) == ("vae", "1", hashlib.sha256(described).hexdigest())
    model.write(tmp_path)
    folder = tmp_path / "vae" / "1"
    layout.read_files(folder, layout.read_model(folder))


def described(files: list[tuple[str, int | str]], name: str = "a") -> str:
    """A model.json that lists files with their sizes."""
    listed = [{"path": path, "size_bytes": size} for path, size in files]
    return json.dumps({"name": name, "version": "1", "files": listed})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "with a model.json in it"),
        ("{", "expected a model.json"),
        ("{}", "expected a model.json"),
        (described([], name="../a"), "expected a name"),
        (described([("../secret", 1)]), "files within the bundle"),
        (described([("/etc/passwd", 1)]), "files within the bundle"),
        *((described([(path, 1)]), "files within the bundle") for path in ("", ".", "nul\0", "a/../b")),
        *((described([(path, 9)]), "expected a readable file") for path in ("x" * 300, "large/x", "folder", "\ud800")),
        (described([("a", "many")]), "expected a model.json"),
        (described([("a", 1)]).replace(": 1}", ": 1e999}"), "expected a model.json.*infinity"),
        (described([("a", 2**30), ("b", 2**31)]), "at most 2147483648 bytes together, got 3221225472: raise HOURGLASS"),
        (described([("a", -1)]), "expected sizes from 0 in model.json, got -1 of a"),
        (described([("large", 3)]), "large: expected at most 3 bytes, got 4"),
        (" " * (layout.MAX_MODEL_FILE_BYTES + 1), "model.json: expected at most 4194304 bytes, got 4194305"),
    ],
)
def test_what_is_no_bundle_is_refused(tmp_path: Path, text: str | None, expected: str) -> None:
    (tmp_path / "large").write_bytes(b"1234")
    (tmp_path / "folder").mkdir()
    if text is not None:
        (tmp_path / layout.MODEL_FILE).write_text(text)
    with pytest.raises(InputError, match=expected):
        Model.read(str(tmp_path), MOST)


@pytest.mark.parametrize("place", [layout.MODEL_FILE, layout.SIGNING_FILE, "a"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "loop"])
def test_a_bundle_of_other_than_files_is_refused_at_once(tmp_path: Path, place: str, kind: str) -> None:
    if place != layout.MODEL_FILE:
        (tmp_path / layout.MODEL_FILE).write_text(described([("a", 1)]))
    make = {"pipe": os.mkfifo, "folder": Path.mkdir, "loop": lambda path: path.symlink_to(path)}
    make[kind](tmp_path / place)
    with pytest.raises(InputError, match=f"{place}: expected a readable file"):
        Model.read(str(tmp_path), MOST)


def test_a_file_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"model.json: expected a readable file: Not a directory"):
        Model.read(str(tmp_path / "file"), MOST)


@pytest.mark.parametrize(("name", "path"), [("a" * 300, "a"), ("a", "x" * 300), ("a", "\ud800")])
def test_names_that_no_disk_holds_are_a_sentence(tmp_path: Path, name: str, path: str) -> None:
    with pytest.raises(InputError, match=r"expected a bundle that .* can hold: "):
        Model(name, "1", "", {path: b""}).write(tmp_path)
