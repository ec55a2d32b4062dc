"""Images of a part: from files or Parquet rows to batches, read one batch ahead."""

import re
import threading
from collections.abc import Iterable, Iterator
from queue import Queue
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from deploy.batch.errors import InputError
from deploy.batch.options import MAX_BATCH_BYTES
from deploy.batch.plan import Item
from deploy.batch.storage import Store

T = TypeVar("T")
# As `Store.find` writes a byte that is not UTF-8.
_ESCAPED = re.compile(r"\\udc[89a-f][0-9a-f]")


class Image(NamedTuple):
    """One image of the input, or why it could not be read."""

    id: str
    data: bytes
    problem: str = ""


class Source:
    """Reads images of an input."""

    def __init__(self, images: Store, image_column: str, id_column: str, batch_images: int, max_bytes: int) -> None:
        """Read from a store.

        Args:
            images: the input.
            image_column: of tables: image files as binary, or structs with them in `bytes`.
            id_column: of tables: ids; if empty they are made of file and row.
            batch_images: most images of a batch.
            max_bytes: most bytes of an image.
        """
        self._images = images
        self._columns = (image_column, id_column)
        self._batch_images = batch_images
        self._max_bytes = max_bytes

    def batches(self, items: Iterable[Item]) -> Iterator[list[Image]]:
        """Images of items, in their order."""
        return _ahead(self._batched(items))

    def _batched(self, items: Iterable[Item]) -> Iterator[list[Image]]:
        files: list[Item] = []
        for item in items:
            if item.group is not None:
                yield from self._table(item)
            else:
                files.append(item)
        for group in _packed(files, [item.size_bytes for item in files], self._batch_images):
            yield self._files(group)

    def _files(self, items: list[Item]) -> list[Image]:
        sizes = {item.path: item.size_bytes for item in items}
        fitting = {name: size for name, size in sizes.items() if size <= self._max_bytes}
        found = self._images.read_many(fitting, self._max_bytes)
        images: list[Image] = []
        for name, size in sizes.items():
            got = found.get(name, self._too_large(size))
            if isinstance(got, bytes):
                images.append(Image(name, got))
            elif _ESCAPED.search(name):
                images.append(Image(name, b"", "expected a file name in UTF-8: rename the file"))
            else:
                images.append(Image(name, b"", got))
        return images

    def _table(self, item: Item) -> Iterator[list[Image]]:
        """Rows of a Parquet file; those before them in their row group are read and dropped."""
        column, ids = self._columns
        names = [column, *([ids] if ids else [])]
        number, end = item.first, item.first + item.rows
        try:
            for rows in self._rows(item, names):
                images = [
                    self._image(value, f"{item.path}:{number + index}", given)
                    for index, (value, given) in enumerate(zip(_files(rows[column]), _ids(rows, ids), strict=True))
                ]
                number += rows.num_rows
                yield from _packed(images, [len(image.data) for image in images], self._batch_images)
        except InputError as error:
            yield [Image(f"{item.path}:{index}", b"", error.text) for index in range(number, end)]

    def _rows(self, item: Item, names: list[str]) -> Iterator[pa.RecordBatch]:
        left, skip = item.rows, item.skip
        with self._images.open(item.path, "readable rows") as stream:
            file = pq.ParquetFile(stream)
            for batch in file.iter_batches(self._batch_images, row_groups=[item.group], columns=names):
                dropped = min(skip, batch.num_rows)
                skip -= dropped
                rows = batch.slice(dropped, left)
                left -= rows.num_rows
                yield rows
                if not left:
                    return

    def _image(self, data: object, place: str, given: str | None) -> Image:
        name = place if given is None else given
        if not isinstance(data, bytes):
            return Image(name, b"", "expected an image file in the row, got none")
        return Image(name, b"", self._too_large(len(data))) if len(data) > self._max_bytes else Image(name, data)

    def _too_large(self, size: int) -> str:
        return f"expected a file of at most {self._max_bytes} bytes, got {size}: raise HOURGLASS_MAX_MESSAGE_BYTES"


def image_type(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold image files."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and image_type(kind.field("bytes").type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _files(column: pa.Array) -> list[bytes | None]:
    values: list[Any] = column.to_pylist()
    return [value.get("bytes") if isinstance(value, dict) else value for value in values]


def _ids(rows: pa.RecordBatch, column: str) -> list[str | None]:
    if not column:
        return [None] * rows.num_rows
    return [None if value is None else str(value) for value in rows[column].to_pylist()]


def _packed(each: list[T], sizes: list[int], most: int) -> Iterator[list[T]]:
    """Runs of at most so many, and of few bytes unless one alone has more."""
    start = size = 0
    for index in range(len(each)):
        if index > start and (index - start == most or size + sizes[index] > MAX_BATCH_BYTES):
            yield each[start:index]
            start, size = index, 0
        size += sizes[index]
    if start < len(each):
        yield each[start:]


def _ahead(values: Iterator[T]) -> Iterator[T]:
    """The same values, made on a thread of their own, two ahead."""
    queue: Queue[tuple[bool, Any]] = Queue(2)
    left = threading.Event()

    def work() -> None:
        try:
            for value in values:
                queue.put((True, value))
                if left.is_set():
                    return
            queue.put((False, None))
        except Exception as error:  # noqa: BLE001 (it is raised where the values are used)
            queue.put((False, error))

    threading.Thread(target=work, name="read", daemon=True).start()
    try:
        while True:
            more, value = queue.get()
            if not more:
                break
            yield value
    finally:
        left.set()
        # The thread may wait for a place, of which it takes one more at most.
        while not queue.empty():
            queue.get()
    if value is not None:
        raise value
