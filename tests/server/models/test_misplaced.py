"""Folders that hold a model and are not served: said once each, with the rule and the name that would work."""

import shutil
from pathlib import Path

import pytest

from server.models.repository import Repository
from tests.server.conftest import GOLDEN, copy_version, serving
from tests.server.models.test_manager import FAST_POLL, eventually, readyz

NAME = "a model's name has only a-z, 0-9 and -, and begins with a letter or digit"
VERSION = "a version is a whole number from 1, without leading zeros"
PLACE = "expected <name>/<version>/model.json"
IMPORT = "it is written last, and `python -m export import` makes a bundle of ONNX files"
CASES = {
    "my_model/1": ("my_model", f"{NAME}: the files of my_model/1 belong in vae/1, as its model.json states"),
    "MyModel/1": ("MyModel", f"{NAME}: the files of MyModel/1 belong in vae/1, as its model.json states"),
    "fc.ae/1": ("fc.ae", f"{NAME}: the files of fc.ae/1 belong in vae/1, as its model.json states"),
    "vae/001": ("vae/001", f"{VERSION}: the files of vae/001 belong in vae/1, as its model.json states"),
    "vae/v1": ("vae/v1", f"{VERSION}: the files of vae/v1 belong in vae/1, as its model.json states"),
    "vae": ("vae", f"{PLACE}, got <name>/model.json: the files of vae belong in vae/1, as its model.json states"),
    "group/vae/1": ("group/vae", f"{VERSION}: the files of group/vae/1 belong in vae/1, as its model.json states"),
    ".": ("model.json", f"{PLACE}: it lies in the repository itself; --repository takes the folder above <name>"),
}
FOREIGN = {
    "resnet/1/model.onnx": ("resnet/1", f"expected model.json next to model.onnx: {IMPORT}"),
    "resnet/model.onnx": ("resnet", f"{PLACE}, got <name>/model.onnx: move it to resnet/1; {IMPORT}"),
    "resnet/v20/model.onnx": ("resnet/v20", f"{VERSION}: rename it to resnet/20; {IMPORT}"),
    "Res_Net/1/model.onnx": ("Res_Net", f"{NAME}: rename it to res-net; {IMPORT}"),
    "model.onnx": (
        "model.onnx",
        f"{PLACE}: it lies in the repository itself; --repository takes the folder above <name>",
    ),
    "my_model/1/model.json": ("my_model", f"{NAME}: rename it to my-model"),
}
NO_MODELS = (".staging/1/model.json", "lost+found/notes", "vae/labels.json", "notes/readme.txt", "vae/.2/model.json")


def look(repository: Repository) -> dict[str, str]:
    """Entries that one look finds, with their reasons."""
    for name in repository.look() or ():
        repository.versions(name, ())
    repository.end_look()
    return {each.path: each.why for each in repository.misplaced}


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{")


@pytest.mark.parametrize(("place", "expected"), CASES.items())
def test_a_bundle_in_a_wrong_place(tmp_path: Path, place: str, expected: tuple[str, str]) -> None:
    shutil.copytree(GOLDEN / "vae" / "1", tmp_path / "models" / place)
    assert look(Repository(tmp_path / "models", "latest")).items() == {expected}


@pytest.mark.parametrize(("file", "expected"), FOREIGN.items())
def test_what_is_no_bundle(tmp_path: Path, file: str, expected: tuple[str, str]) -> None:
    touch(tmp_path / file)
    assert look(Repository(tmp_path, "latest")).items() == {expected}


def test_what_is_no_model_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy_version(tmp_path, "vae", 1)
    # Still being copied: model.json is written last.
    touch(tmp_path / "vae" / "2" / "encode.onnx")
    for file in NO_MODELS:
        touch(tmp_path / file)
    assert look(Repository(tmp_path, "latest")) == {}
    assert not caplog.records


def test_each_is_logged_once_until_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    repository = Repository(tmp_path, "latest")
    touch(tmp_path / "my_model" / "1" / "model.onnx")
    for _ in range(3):
        look(repository)
    assert len(caplog.records) == 1
    touch(tmp_path / "my_model" / "1" / "model.json")
    for _ in range(3):
        look(repository)
    assert len(caplog.records) == 2
    shutil.rmtree(tmp_path / "my_model")
    assert look(repository) == {}
    touch(tmp_path / "my_model" / "1" / "model.json")
    look(repository)
    assert len(caplog.records) == 3


def test_many_are_bounded_in_number_and_length(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(150):
        touch(tmp_path / f"{'N' * 200}\x1b{number:03d}" / "1" / "model.json")
    touch(tmp_path / ("M" * 50 + "\udcff") / "1" / "model.json")
    found = look(Repository(tmp_path, "latest"))
    assert len(found) == 100
    assert max(len(path) + len(why) for path, why in found.items()) < 600
    assert all(f"{path}{why}".isprintable() for path, why in found.items())
    assert len(caplog.records) == 21
    assert caplog.records[-1].getMessage() == "80 more entries are not served"


def test_strict_readiness_names_and_misses_them(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    shutil.copytree(GOLDEN / "vae" / "1", repository / "my_vae" / "1")
    with serving(repository, strict_readiness=True, **FAST_POLL) as served:
        status, text = readyz(served)
        assert status == 503
        assert text.endswith(
            f"my_vae is not served: {NAME}: the files of my_vae/1 belong in vae/1, as its model.json states\n"
        )
        (repository / "my_vae").rename(repository / "vae")
        eventually(lambda: readyz(served) == (200, "2 versions serve on CPUExecutionProvider\n"))
        # One that comes later takes no server out of traffic.
        shutil.copytree(GOLDEN / "vae" / "1", repository / "VAE" / "1")
        eventually(lambda: "VAE is not served" in readyz(served)[1])
        assert readyz(served)[0] == 200


def test_readiness_of_a_repository_that_holds_nothing_else(repository: Path) -> None:
    shutil.copytree(GOLDEN / "vae" / "1", repository / "vae")
    with serving(repository) as served:
        expected = f"no model serves: vae is not served: {CASES['vae'][1]}\n"
        assert readyz(served) == (503, expected)
        assert served.app.manager.load("vae") == f"vae: {CASES['vae'][1]}"
