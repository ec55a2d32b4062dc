import os
from pathlib import Path

import pytest

from deploy.batch import plan
from deploy.batch.errors import InputError
from deploy.batch.options import MAX_PART_BYTES
from deploy.batch.plan import Item, Part
from deploy.batch.storage import Store
from tests.deploy.batch.conftest import noise, table, write


def planned(output: Path, images: Path, part_images: int = 4096, workers: int = 1) -> list[Part]:
    store = Store(str(output))
    plan.append(store, listed(output, images, part_images), part_images, workers)
    return plan.read(store)[0]


def listed(output: Path, images: Path, part_images: int = 4096) -> list[Item]:
    return plan.missing(Store(str(output)), Store(str(images)), part_images, lambda *_: None)


def test_lists_image_files_in_order_and_nothing_hidden(tmp_path: Path) -> None:
    data = noise(1)[0]
    names = ["b/2.PNG", "a.jpg", "b/1.png", "._a.png", ".git/x.png", "notes.txt"]
    write(tmp_path / "images", dict.fromkeys(names, data))
    found = listed(tmp_path / "out", tmp_path / "images")
    assert [(item.path, item.group, item.size_bytes) for item in found] == [
        (name, None, len(data)) for name in ("a.jpg", "b/1.png", "b/2.PNG")
    ]


def test_parts_keep_workers_busy_and_stay_small(tmp_path: Path) -> None:
    write(tmp_path / "images", {f"{index:03}.png": b"" for index in range(100)})
    assert [part.rows for part in planned(tmp_path / "a", tmp_path / "images", workers=2)] == [7] * 14 + [2]
    parts = planned(tmp_path / "b", tmp_path / "images", part_images=3)
    assert max(part.rows for part in parts) == 3
    assert sum(part.rows for part in parts) == 100
    assert [part.number for part in parts] == [*range(len(parts))]


def test_a_part_has_few_bytes(tmp_path: Path) -> None:
    half = Item("a", None, 0, 0, 1, MAX_PART_BYTES // 2)
    plan.append(Store(str(tmp_path)), [half._replace(path=name) for name in "abcdefgh" * 5], 100, 1)
    assert {part.rows for part in plan.read(Store(str(tmp_path)))[0]} == {2}


def test_what_is_new_is_appended(tmp_path: Path) -> None:
    write(tmp_path / "images", {"a.png": b"", "b.png": b""})
    first = planned(tmp_path / "out", tmp_path / "images")
    write(tmp_path / "images", {"c.png": b""})
    both = planned(tmp_path / "out", tmp_path / "images")
    assert both[: len(first)] == first
    assert [part.name for part in both[len(first) :]] == ["parts/part-000002.parquet"]
    assert planned(tmp_path / "out", tmp_path / "images") == both


def test_runs_of_rows_stay_within_row_groups(tmp_path: Path) -> None:
    table(tmp_path / "images" / "x.parquet", {"image": noise(25)}, group=10)
    found = listed(tmp_path / "out", tmp_path / "images", 4)
    assert [(each.group, each.skip, each.first, each.rows) for each in found] == [
        (0, 0, 0, 4),
        (0, 4, 4, 4),
        (0, 8, 8, 2),
        (1, 0, 10, 4),
        (1, 4, 14, 4),
        (1, 8, 18, 2),
        (2, 0, 20, 4),
        (2, 4, 24, 1),
    ]


def test_only_what_exists_is_done(tmp_path: Path) -> None:
    write(tmp_path / "parts", {"part-000001.parquet": b"", ".part-000002.parquet.77": b""})
    assert plan.done(Store(str(tmp_path))) == {"parts/part-000001.parquet"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "found none"),
        ({"a.txt": b""}, "found none"),
        ({"a.png": b"", "b.parquet": b""}, "got 1 and 1"),
        ({"b.parquet": b"no table"}, "b.parquet: expected a Parquet file"),
    ],
)
def test_other_input_is_refused(tmp_path: Path, files: dict[str, bytes], expected: str) -> None:
    write(tmp_path / "images", files)
    with pytest.raises(InputError, match=expected):
        listed(tmp_path / "out", tmp_path / "images")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": b""})
    with pytest.raises(InputError, match="got a file"):
        listed(tmp_path / "out", tmp_path / "a.png")


def test_columns_are_checked(tmp_path: Path) -> None:
    table(tmp_path / "images" / "x.parquet", {"picture": noise(1)})
    seen: dict[str, list[str]] = {}
    store = Store(str(tmp_path / "images"))
    plan.missing(Store(str(tmp_path / "out")), store, 8, lambda name, schema: seen.update({name: schema.names}))
    assert seen == {"x.parquet": ["picture"]}


def test_foreign_files_are_no_plan_and_a_damaged_plan_is_a_sentence(tmp_path: Path) -> None:
    write(tmp_path / "images", {"a.png": b""})
    parts = planned(tmp_path / "out", tmp_path / "images")
    write(tmp_path / "out" / "plan", {"readme.txt": b"", "notes.parquet": b"", "000000.parquet.txt": b""})
    assert plan.read(Store(str(tmp_path / "out")))[0] == parts
    path = tmp_path / "out" / "plan" / "000000.parquet"
    for data in (b"", path.read_bytes()[:-9]):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"000000.parquet: expected the plan of a job.*: name another output"):
            plan.read(Store(str(tmp_path / "out")))
    table(path, {"other": [1]})
    with pytest.raises(InputError, match=r"000000.parquet: expected the plan of a job"):
        plan.read(Store(str(tmp_path / "out")))


def test_a_table_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    os.mkfifo(tmp_path / "images" / "a.parquet")
    with pytest.raises(InputError, match=r"a.parquet: expected a Parquet file"):
        listed(tmp_path / "out", tmp_path / "images")


def test_a_name_that_is_no_unicode_does_not_stop_the_others(tmp_path: Path) -> None:
    write(tmp_path / "images", {"a.png": b"", os.fsdecode(b"\xff.png"): b""})
    parts = planned(tmp_path / "out", tmp_path / "images")
    assert sum(part.rows for part in parts) == 2
    assert planned(tmp_path / "out", tmp_path / "images") == parts
