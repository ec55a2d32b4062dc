import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keys
import pytest
from autoencoder.v1.model_pb2 import Model, Signature

from bundle import layout
from bundle.signing import PublicKey, check_signing
from export.errors import ExportError, InputError
from export.publication.publish import Place, publish

CONTENTS = {"golden.npz": b"golden", "encode.onnx": b"graph"}


def describe(version: str) -> Model:
    signatures = [Signature(name="encode", file="encode.onnx")]
    return Model(name="ae", version=version, signatures=signatures, files=layout.describe_files(CONTENTS))


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_version_is_whole_and_readable(tmp_path: Path) -> None:
    folder = publish(Place(tmp_path / "new/repository", "ae", None), CONTENTS, describe)
    assert folder == tmp_path / "new/repository/ae/1"
    assert everything(folder) == ["encode.onnx", "golden.npz", "model.json"]
    model = layout.read_model(folder)
    assert model.version == "1"
    assert layout.read_files(folder, model) == CONTENTS
    assert stat.S_IMODE(folder.stat().st_mode) & 0o555 == 0o555


def test_versions_count_up_and_leave_gaps_alone(tmp_path: Path) -> None:
    assert publish(Place(tmp_path, "ae", 3), CONTENTS, describe).name == "3"
    assert publish(Place(tmp_path, "ae", None), CONTENTS, describe).name == "4"
    assert publish(Place(tmp_path, "ae", 1), CONTENTS, describe).name == "1"
    (tmp_path / "ae/9").mkdir()  # someone is still copying it
    assert publish(Place(tmp_path, "ae", None), CONTENTS, describe).name == "10"
    assert layout.versions(tmp_path, "ae") == [1, 3, 4, 10]


def test_a_version_is_never_overwritten(tmp_path: Path) -> None:
    folder = publish(Place(tmp_path, "ae", 2), CONTENTS, describe)
    before = (folder / "model.json").stat().st_mtime_ns
    with pytest.raises(InputError, match="version 2 of ae exists"):
        publish(Place(tmp_path, "ae", 2), {}, describe)
    with pytest.raises(InputError, match="version 2 of ae exists"):
        Place(tmp_path, "ae", 2).check()
    assert (folder / "model.json").stat().st_mtime_ns == before


def test_a_version_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    def slow(version: str) -> Model:
        publish(Place(tmp_path, "ae", 2), CONTENTS, describe)
        return describe(version)

    with pytest.raises(InputError, match="version 2 of ae exists"):
        publish(Place(tmp_path, "ae", 2), CONTENTS, slow)
    assert everything(tmp_path) == ["ae", "ae/2", "ae/2/encode.onnx", "ae/2/golden.npz", "ae/2/model.json"]


def test_many_exporters_at_once_get_versions_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: publish(Place(tmp_path, "ae", None), CONTENTS, describe), range(24)))
    assert sorted(int(folder.name) for folder in folders) == layout.versions(tmp_path, "ae") == list(range(1, 25))
    for folder in folders:
        assert layout.read_model(folder).version == folder.name


def test_a_watcher_never_sees_part_of_a_version(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    def watched(version: str) -> Model:
        seen.append(layout.versions(tmp_path, "ae"))
        assert layout.model_names(tmp_path) == ["ae"]
        return describe(version)

    publish(Place(tmp_path, "ae", None), CONTENTS, watched)
    assert seen == [[]]


def failing(_: str) -> Model:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("prepare", [lambda _: None, lambda repository: (repository / "other").mkdir(parents=True)])
def test_a_failure_leaves_nothing(tmp_path: Path, prepare: Callable[[Path], object]) -> None:
    repository = tmp_path / "repository"
    prepare(repository)
    before = everything(tmp_path)
    with pytest.raises(ExportError, match="No space left"):
        publish(Place(repository, "ae", None), CONTENTS, failing)
    assert everything(tmp_path) == before


def test_what_a_killed_exporter_left_goes_and_what_another_writes_stays(tmp_path: Path) -> None:
    killed, working = tmp_path / "ae/.export-dead", tmp_path / "ae/.export-alive"
    for folder in (killed, working):
        folder.mkdir(parents=True)
        (folder / "encode.onnx").write_bytes(b"half")
    os.utime(killed, (0, 0))
    publish(Place(tmp_path, "ae", None), CONTENTS, describe)
    assert sorted(path.name for path in (tmp_path / "ae").iterdir()) == [".export-alive", "1"]


def test_a_repository_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        publish(Place(tmp_path / "file", "ae", None), CONTENTS, describe)
    with pytest.raises(InputError, match="is a file"):
        publish(Place(tmp_path / "file" / "below", "ae", None), CONTENTS, describe)
    with pytest.raises(InputError, match="is a file"):
        publish(Place(tmp_path, "file", None), CONTENTS, describe)
    assert everything(tmp_path) == ["file"]


def test_a_repository_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    # Root may write anywhere but there.
    folder = Path("/proc/sys") if os.access(folder, os.W_OK) else folder
    for place in (Place(folder / "models", "ae"), Place(folder.parent, folder.name)):
        with pytest.raises(InputError, match="writable directory"):
            place.check()


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", "-a", "a_b"])
def test_names_that_no_repository_can_hold(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="model name"):
        publish(Place(tmp_path, name, None), CONTENTS, describe)


def test_versions_below_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="from 1"):
        publish(Place(tmp_path, "ae", 0), CONTENTS, describe)


def test_a_version_signed_as_it_is_written(tmp_path: Path) -> None:
    private, public = keys.write_pair(tmp_path / "keys")
    folder = publish(Place(tmp_path / "models", "ae", None, private), CONTENTS, describe)
    written = {name: (folder / name).read_bytes() for name in ("model.json", *CONTENTS)}
    check_signing((folder / "model.sig").read_bytes(), written, PublicKey.read(public))


def test_a_key_that_cannot_sign(tmp_path: Path) -> None:
    private, public = keys.write_foreign_pair(tmp_path / "keys")
    for key in (private, public, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="expected an unencrypted private key"):
            publish(Place(tmp_path / "models", "ae", None, key), CONTENTS, describe)
    assert not (tmp_path / "models").exists()
