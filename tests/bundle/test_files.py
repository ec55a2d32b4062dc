from pathlib import Path

import pytest

from bundle.files import identity, sync_folder, write_synced


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    write_synced(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    sync_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        write_synced(tmp_path / "nowhere" / "file", b"")


def test_a_file_that_is_written_or_replaced_is_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert identity(path) is None
    write_synced(path, b"a")
    first = identity(path)
    assert first == identity(path)
    write_synced(path, b"ab")
    second = identity(path)
    write_synced(tmp_path / "other", b"ab")
    (tmp_path / "other").rename(path)
    assert len({first, second, identity(path)}) == 3
