"""The plan of a job: which images there are, in parts. Kept in the output folder, it is how an ended job goes on.

Each start lists the input again and appends what the plan does not hold yet. A part is done when its file exists.
"""

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from bundle.images.decoder import SUFFIXES
from deploy.batch.errors import InputError
from deploy.batch.options import MAX_PART_BYTES
from deploy.batch.storage import Store

CheckColumns: TypeAlias = Callable[[str, pa.Schema], None]
TABLE_SUFFIX = ".parquet"
_PLAN_NAME = re.compile(r"[0-9]{6,}\.parquet")
# Parts for each worker: the last ones to finish should be short against the job.
_PARTS_PER_WORKER = 8
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("group", pa.int32()),
        ("skip", pa.int32()),
        ("first", pa.int64()),
        ("rows", pa.int32()),
        ("size_bytes", pa.int64()),
    ]
)


class Item(NamedTuple):
    """An image file, or a run of rows of a Parquet file."""

    path: str
    """Below the input."""
    group: int | None
    """Row group; None of an image file."""
    skip: int
    """Rows of that group before these."""
    first: int
    """Number of the first row in its file."""
    rows: int
    size_bytes: int


class Part(NamedTuple):
    """A part of a plan: what a worker does at once and writes as one file."""

    number: int
    plan: str
    """File of the plan."""
    group: int
    """Row group in it."""
    rows: int

    @property
    def name(self) -> str:
        """Its file with the results."""
        return f"parts/part-{self.number:06}{TABLE_SUFFIX}"

    @property
    def tries(self) -> str:
        """Its file with the number of times that it was begun, until the job ends."""
        return f"tries/{self.number:06}"


def missing(output: Store, images: Store, part_images: int, check: CheckColumns) -> list[Item]:
    """List what the input has and the plan has not; `check` refuses tables by their columns.

    Raises:
        InputError: neither images nor tables, both, or a table that cannot be read.
    """
    _, known = read(output)
    return [item for item in _items(images, part_images, check) if item.path not in known]


def append(output: Store, items: list[Item], part_images: int, workers: int) -> None:
    """Append items to the plan, in parts that keep all workers busy until near the end."""
    if not items:
        return
    most = min(part_images, -(-sum(item.rows for item in items) // (_PARTS_PER_WORKER * workers)))
    stream = io.BytesIO()
    with pq.ParquetWriter(stream, _SCHEMA) as writer:
        for group in _grouped(items, most):
            columns = zip(*group, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=_SCHEMA))
    output.write(f"plan/{len(read(output)[0]):06}{TABLE_SUFFIX}", stream.getvalue())


def read(output: Store) -> tuple[list[Part], set[str]]:
    """All parts of a plan, and the paths in it.

    Raises:
        InputError: a file of it cannot be read, or is not as it was written.
    """
    plans = Store(f"{output.url.rstrip('/')}/plan")
    parts: list[Part] = []
    known: set[str] = set()
    for name in filter(_PLAN_NAME.fullmatch, plans.find()):
        with plans.open(name, "the plan of a job, unharmed", "name another output") as stream:
            file = pq.ParquetFile(stream)
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=["path", "rows"])
                known.update(table["path"].to_pylist())
                parts.append(Part(len(parts), f"plan/{name}", group, sum(table["rows"].to_pylist())))
    return parts, known


def done(output: Store) -> set[str]:
    """Names of the parts whose results exist."""
    return {f"parts/{name}" for name in _visible(Store(f"{output.url.rstrip('/')}/parts").find())}


def _items(images: Store, part_images: int, check: CheckColumns) -> Iterable[Item]:
    found = _visible(images.find())
    if "" in found:
        raise InputError(f"{images.url}: expected a folder of images or of Parquet files, got a file")
    tables = [name for name in found if name.lower().endswith(TABLE_SUFFIX)]
    files = {name: size for name, size in found.items() if name.lower().endswith(SUFFIXES)}
    if tables and files:
        raise InputError(
            f"{images.url}: expected image files or Parquet files, got {len(files)} and {len(tables)}: name a folder "
            "that holds one kind"
        )
    if not tables and not files:
        raise InputError(f"{images.url}: expected image files ({' '.join(SUFFIXES)}) or Parquet files, found none")
    if files:
        return (Item(name, None, 0, 0, 1, size) for name, size in files.items())
    return [item for name in tables for item in _runs(images, name, part_images, check)]


def _runs(images: Store, name: str, part_images: int, check: CheckColumns) -> Iterator[Item]:
    """Runs of rows of a Parquet file, none across two row groups."""
    with images.open(name, "a Parquet file") as stream:
        metadata = pq.read_metadata(stream)
        schema = metadata.schema.to_arrow_schema()
    check(name, schema)
    first = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for skip in range(0, group.num_rows, part_images):
            rows = min(part_images, group.num_rows - skip)
            yield Item(name, number, skip, first + skip, rows, group.total_byte_size * rows // group.num_rows)
        first += group.num_rows


def _grouped(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Items in parts: of at most so many images, and of few bytes."""
    part: list[Item] = []
    rows = size = 0
    for item in items:
        if part and (rows + item.rows > most or size + item.size_bytes > MAX_PART_BYTES):
            yield part
            part, rows, size = [], 0, 0
        part.append(item)
        rows += item.rows
        size += item.size_bytes
    if part:
        yield part


def _visible(found: Mapping[str, int]) -> dict[str, int]:
    """Without hidden files and folders, and what is being written."""
    return {name: size for name, size in found.items() if not any(each.startswith(".") for each in name.split("/"))}
