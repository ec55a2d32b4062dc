import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest

from deploy.batch import plan
from deploy.batch.options import MAX_BATCH_BYTES
from deploy.batch.sources import Image, Source, _ahead, image_type
from deploy.batch.storage import Store
from tests.deploy.batch.conftest import noise, table, write


def read(
    images: str, *, ids: str = "", column: str = "image", batch: int = 256, most: int = 2**26
) -> list[list[Image]]:
    store = Store(images)
    items = plan.missing(Store("memory://nowhere"), store, 4, lambda *_: None)
    return [*Source(store, column, ids, batch, most).batches(items)]


def flat(batches: list[list[Image]]) -> list[Image]:
    return [image for batch in batches for image in batch]


def test_batches_have_few_images_and_few_bytes(tmp_path: Path) -> None:
    large = b"x" * (MAX_BATCH_BYTES // 2)
    write(tmp_path, {"a.png": b"x", "b.png": b"x", "c.png": b"x", "d.png": large, "e.png": large, "f.png": large * 3})
    found = [[image.id for image in batch] for batch in read(str(tmp_path), batch=2)]
    assert found == [["a.png", "b.png"], ["c.png", "d.png"], ["e.png"], ["f.png"]]


def test_reading_ahead_ends_when_no_more_is_wanted() -> None:
    made: list[int] = []
    full = threading.Event()

    def values() -> Iterator[int]:
        for number in range(9):
            made.append(number)
            # One is taken, two are ready, and this one waits for a place.
            if number == 3:
                full.set()
            yield number

    before = set(threading.enumerate())
    ahead = _ahead(values())
    assert next(ahead) == 0
    (reader,) = set(threading.enumerate()) - before
    assert full.wait(60)
    del ahead
    reader.join(10)
    assert not reader.is_alive()
    assert made == [0, 1, 2, 3]


def test_names_with_brackets_are_no_patterns(tmp_path: Path) -> None:
    files = {"a1.png": b"another", "a[1].png": b"one", "b[2].png": b"two", "c*.png": b"three", "d?.png": b"four"}
    write(tmp_path, files)
    for batch in (1, 256):
        assert flat(read(str(tmp_path), batch=batch)) == [Image(*each) for each in sorted(files.items())]


def test_rows_of_a_table_in_order_whatever_its_row_groups(tmp_path: Path) -> None:
    files = noise(25)
    table(tmp_path / "x.parquet", {"image": files, "key": [f"k{index}" for index in range(25)]}, group=10)
    for batch in (1, 3, 256):
        assert flat(read(str(tmp_path), batch=batch)) == [Image(f"x.parquet:{i}", each) for i, each in enumerate(files)]
        assert [image.id for image in flat(read(str(tmp_path), ids="key", batch=batch))] == [f"k{i}" for i in range(25)]


def test_structs_with_bytes_as_data_sets_have_them(tmp_path: Path) -> None:
    files = noise(3)
    table(tmp_path / "x.parquet", {"picture": [{"bytes": each, "path": None} for each in files]})
    assert [image.data for image in flat(read(str(tmp_path), column="picture"))] == files


def test_rows_without_an_image_or_an_id(tmp_path: Path) -> None:
    table(tmp_path / "x.parquet", {"image": [b"a", None, b"ccc"], "key": [7, 8, None]})
    assert flat(read(str(tmp_path), ids="key", most=2)) == [
        Image("7", b"a"),
        Image("8", b"", "expected an image file in the row, got none"),
        Image("x.parquet:2", b"", "expected a file of at most 2 bytes, got 3: raise HOURGLASS_MAX_MESSAGE_BYTES"),
    ]


def test_damaged_rows_are_errors_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table(path, {"image": noise(8)}, group=4)
    data = bytearray(path.read_bytes())
    data[20:200] = b"\0" * 180
    path.write_bytes(data)
    found = flat(read(str(tmp_path)))
    assert [image.id for image in found] == [f"x.parquet:{index}" for index in range(8)]
    assert all(image.problem.startswith("expected readable rows") for image in found[:4])
    assert not any(image.problem for image in found[4:])


def test_files_that_are_gone_or_too_large(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": b"abc", "c.png": b"c"})
    (tmp_path / "b.png").symlink_to("gone")
    found = flat(read(str(tmp_path), most=2))
    assert [image.id for image in found] == ["a.png", "b.png", "c.png"]
    assert [bool(image.problem) for image in found] == [True, True, False]
    assert "No such file" in found[1].problem


def test_what_is_no_file_or_has_no_plain_name_is_an_error_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": b"a"})
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    (tmp_path / os.fsdecode(b"\xff\xfe.png")).write_bytes(b"d")
    assert sorted(flat(read(str(tmp_path)))) == [
        Image(r"\udcff\udcfe.png", b"", "expected a file name in UTF-8: rename the file"),
        Image("a.png", b"a"),
        Image("b.png", b"", "expected a readable file, got a pipe or device"),
        Image("c.png", b"", "expected a readable file, got a pipe or device"),
    ]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The folder behind a URL."""
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_reads_behind_a_url(tmp_path: Path, url: str) -> None:
    files = {f"{index}.png": data for index, data in enumerate(noise(5))}
    write(tmp_path, files)
    assert {image.id: image.data for image in flat(read(url))} == files
    (tmp_path / "5.png").write_bytes(b"x" * 2000)
    assert flat(read(url, most=1999))[5:] == [Image("5.png", b"", "expected at most 1999 bytes, got more")]


@pytest.mark.parametrize(
    ("kind", "fits"),
    [
        (pa.binary(), True),
        (pa.large_binary(), True),
        (pa.struct([("bytes", pa.binary()), ("path", pa.string())]), True),
        (pa.struct([("path", pa.string())]), False),
        (pa.string(), False),
        (pa.list_(pa.float32()), False),
    ],
)
def test_types_of_columns_that_may_hold_files(kind: pa.DataType, *, fits: bool) -> None:
    assert image_type(kind) is fits
