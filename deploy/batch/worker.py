"""Worker: an actor with a model that does parts of a job, one after another."""

import io
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from grpc import StatusCode

from deploy.batch.engine import CallError, Engine
from deploy.batch.errors import InputError, JobError
from deploy.batch.model import Model
from deploy.batch.options import Options
from deploy.batch.plan import Item, Part
from deploy.batch.sources import Image, Source
from deploy.batch.storage import Store
from deploy.batch.tasks import Row, task_of
from server.config import Config

# Of failed images, how many a worker names of each part.
_NAMED = 5
# An image may crash a decoder, or need more memory than there is.
_MAX_TRIES = 4
_BATCH_OF_PARTS = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """What every worker of a job is given."""

    options: Options
    model: Model
    config: Config


class Worker:
    """Loads the model when it is made; called by Ray Data with one part at a time."""

    def __init__(self, work: Work) -> None:
        """Load and self-test the model.

        Raises:
            BundleError: as the server.
            DeviceError: as the server.
            ServingError: the model does not serve the task with these options.
        """
        options, self._model = work.options, work.model
        with tempfile.TemporaryDirectory(prefix="hourglass-") as folder:
            work.model.write(Path(folder))
            self.engine = Engine(Path(folder), work.config)
        self.task = task_of(options, self.engine.served)
        self._batch_images = 1 if self.task.one_size else options.batch_images
        self._output = Store(options.output)
        self._source = Source(
            Store(options.images),
            options.image_column,
            options.id_column,
            self._batch_images,
            work.config.max_message_bytes,
        )
        self._plan = cache(self._read_plan)

    def __call__(self, batch: _BATCH_OF_PARTS) -> _BATCH_OF_PARTS:
        """Do the parts of a batch, and say how it went.

        Raises:
            JobError: a part could not be done; the reason as text, since not every exception outlives its process.
        """
        columns = [batch[name].tolist() for name in Part._fields]
        try:
            done = [self.do(Part(*values)) for values in zip(*columns, strict=True)]
        except InputError as error:
            raise JobError(str(error)) from None
        except Exception as error:  # noqa: BLE001 (it ends the job)
            raise JobError(f"{type(error).__name__}: {error}") from None
        return {name: [each[name] for each in done] for name in done[0]}

    def do(self, part: Part) -> Row:
        """Do one part and write its file; a part that another worker has finished is left as it is."""
        started = time.monotonic()
        if self._output.exists(part.name):
            return {"images": part.rows, "failed": 0, "problems": "", "seconds": 0.0}
        self._count_try(part)
        table = self._plan(part.plan).read_row_group(part.group)
        rows = [row for batch in self._source.batches(map(Item._make, _tuples(table))) for row in self._rows(batch)]
        stream = io.BytesIO()
        pq.write_table(self._table(rows), stream)
        self._output.write(part.name, stream.getvalue())
        failed = [row for row in rows if row["error"]]
        problems = "\n".join(f"{row['id']}: {row['error']}" for row in failed[:_NAMED])
        seconds = time.monotonic() - started
        return {"images": len(rows), "failed": len(failed), "problems": problems, "seconds": seconds}

    def _count_try(self, part: Part) -> None:
        """Note that a part begins, so that one that ends each of its workers does not do so for ever.

        Raises:
            RuntimeError: it has been begun too often.
        """
        tries = int(self._output.read(part.tries) or 0)
        if tries == _MAX_TRIES:
            raise RuntimeError(f"part {part.number} has ended its worker {tries} times")
        self._output.write(part.tries, str(tries + 1).encode())

    def _read_plan(self, name: str) -> pq.ParquetFile:
        data = self._output.read(name)
        if data is None:
            raise FileNotFoundError(f"{self._output.url}/{name}: the plan of the job is gone")
        return pq.ParquetFile(io.BytesIO(data))

    def _rows(self, images: list[Image]) -> list[Row]:
        rows: list[Row] = [{"id": image.id, "error": image.problem or None} for image in images]
        usable = [index for index, image in enumerate(images) if not image.problem]
        answers = self._run([images[index].data for index in usable])
        for index, answer in zip(usable, answers, strict=True):
            rows[index].update(answer)
        return rows

    def _run(self, files: list[bytes]) -> Iterator[Row]:
        """Columns of each file, or `error`; an image that fails is found by halving its batch."""
        if not files:
            return
        try:
            yield from self.task.rows(self.engine.call(self.task.method, self.task.request(files)))
        except CallError as error:
            if error.status.code == StatusCode.UNAVAILABLE:
                raise
            if len(files) == 1:
                # Without the field's name: it is that of a request with one file.
                yield {"error": error.status.message.removeprefix("images.encoded.files[0]: ")}
            else:
                middle = len(files) // 2
                yield from self._run(files[:middle])
                yield from self._run(files[middle:])

    def _table(self, rows: list[Row]) -> pa.Table:
        model = {"model": self._model.name, "version": self._model.version, "sha256": self._model.sha256}
        ids = [pa.field("id", pa.string()), pa.field("error", pa.string())]
        fields = [*ids, *self.task.columns]
        arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in fields]
        arrays += [pa.array([value] * len(rows), pa.string()) for value in model.values()]
        return pa.Table.from_arrays(arrays, [*(field.name for field in fields), *model])


def _tuples(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)
