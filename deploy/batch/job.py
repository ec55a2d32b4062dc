"""A job: what it does, what is done of it already, and its workers on Ray Data."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from ray.exceptions import RayError

from bundle.errors import BundleError
from bundle.signing import KeyFileError
from deploy.batch import plan
from deploy.batch.errors import InputError, JobError
from deploy.batch.model import Model
from deploy.batch.options import Options
from deploy.batch.sources import image_type
from deploy.batch.storage import Store
from deploy.batch.worker import Work, Worker
from deploy.ray.reach import reach
from server.config import Config
from server.errors import ServingError
from server.runtime.cpu import cores
from server.runtime.session import DeviceError
from server.settings import SettingsError

_ROOT = Path(__file__).resolve().parents[2]
# What a worker on another machine imports.
_SHIPPED = ("server", "bundle", "deploy", "proto/autoencoder", "proto/inference")
_JOB_FILE = "job.json"
# Ray Data waits for its actors without a word.
_START_SECONDS = 300
_OBJECT_STORE_BYTES = 128 * 1024 * 1024


class Done(NamedTuple):
    """What is done of a job."""

    images: int
    failed: int
    problems: str = ""
    """A line for each of some that failed."""


class Job:
    """One job, begun or to be continued."""

    def __init__(self, options: Options, environment: Mapping[str, str]) -> None:
        """Check everything before Ray starts.

        Raises:
            InputError: an option, the bundle, the input or the output cannot be used.
        """
        try:
            config = Config.parse("deploy.batch", ["--repository", "."], environment)
        except SettingsError as error:
            raise InputError(str(error)) from error
        options.check(config.max_request_rows)
        self._work = Work(options, Model.read(options.bundle, config.max_model_bytes), config)
        _try(self._work)
        self._options = options
        self._output, images = Store(options.output), Store(options.images)
        if self._output.within(images):
            raise InputError(
                f"{options.output}: expected an output outside of the images, in {options.images}: move it"
            )
        new = self._compare(images)
        items = plan.missing(self._output, images, options.part_images, self._check_columns)
        if new is not None:
            self._output.write(_JOB_FILE, new)
        plan.append(self._output, items, options.part_images, options.workers or cores())
        self.parts, _ = plan.read(self._output)
        existing = plan.done(self._output)
        self.left = [part for part in self.parts if part.name not in existing]

    @property
    def images(self) -> int:
        """Images of the whole job."""
        return sum(part.rows for part in self.parts)

    def run(self) -> Iterator[Done]:
        """Do the parts that are left; yield after each.

        Raises:
            InputError: there is no such cluster, or too few free cores in it.
            JobError: a worker failed for another reason than an image.
        """
        if not self.left:
            return
        self._output.remove("tries")
        try:
            _connect(self._options)
            try:
                for row in self._dataset(_workers(self._options)).iter_rows():
                    yield Done(row["images"], row["failed"], row["problems"])
            finally:
                ray.shutdown()
            self._output.remove("tries")
        except (RayError, ConnectionError) as error:
            raise JobError(f"{_reason(error)}: start the job again, and it goes on with what is left") from error

    def total(self) -> Done:
        """Count the rows of all parts that are done, and those that failed.

        Raises:
            InputError: a part is not as it was written.
        """
        images = failed = 0
        for name in sorted(plan.done(self._output) & {part.name for part in self.parts}):
            with self._output.open(name, "rows that a job wrote", "delete it and start the job again") as stream:
                metadata = pq.read_metadata(stream)
                images += metadata.num_rows
                for group in range(metadata.num_row_groups):
                    column = metadata.row_group(group).column(1)
                    failed += metadata.row_group(group).num_rows - column.statistics.null_count
        return Done(images, failed)

    def _dataset(self, workers: int) -> "ray.data.Dataset":
        context = ray.data.DataContext.get_current()
        # The job has its own bar, and its own sentence for what ends it.
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        context.wait_for_min_actors_s = _START_SECONDS
        parts = ray.data.from_items([part._asdict() for part in self.left], override_num_blocks=len(self.left))
        return parts.map_batches(
            Worker,
            fn_constructor_args=(self._work,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(self.left))),
            num_cpus=1,
            num_gpus=1 if self._work.config.device == "cuda" else 0,
        )

    def _compare(self, images: Store) -> bytes | None:
        """Compare what the rows depend on with what the output was begun with; to be written if it is new."""
        model = self._work.model
        ours = {"model": model.name, "version": model.version, "sha256": model.sha256, **self._options.decisive()}
        ours["images"] = images.fs.unstrip_protocol(images.root)
        written = self._output.read(_JOB_FILE)
        if written is None:
            return json.dumps(ours, indent=2).encode() + b"\n"
        with self._output.expects(_JOB_FILE, "what a job wrote", "name another output"):
            theirs = json.loads(written)
            if not isinstance(theirs, dict):
                raise TypeError(f"{type(theirs).__name__} in it")
        other = [name for name, value in ours.items() if theirs.get(name) != value]
        if other:
            seen = ", ".join(f"{name} {theirs.get(name)!r} and not {ours[name]!r}" for name in other)
            raise InputError(f"{self._output.url} holds the rows of another job, with {seen}: name another output")
        return None

    def _check_columns(self, name: str, schema: pa.Schema) -> None:
        column, ids = self._options.image_column, self._options.id_column
        if column not in schema.names or not image_type(schema.field(column).type):
            got = ", ".join(f"{field.name} ({field.type})" for field in schema)
            raise InputError(f"{name}: expected a binary column {column!r} with image files, got {got}: --image-column")
        if ids and ids not in schema.names:
            raise InputError(f"{name}: expected a column {ids!r}, got {', '.join(schema.names)}: --id-column")


def _try(work: Work) -> None:
    """Load the model here as each worker will."""
    try:
        Worker(work).engine.close()
    except (BundleError, DeviceError, KeyFileError, ServingError) as error:
        raise InputError(str(error)) from error


def _connect(options: Options) -> None:
    """Start Ray on this machine, or join a cluster."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if not options.address:
        workers = options.workers or cores()
        # "local": without it Ray joins a cluster that happens to run on this machine.
        sizes = {"num_cpus": workers, "object_store_memory": _OBJECT_STORE_BYTES}
        try:
            ray.init("local", include_dashboard=False, **sizes, **quiet)
        except Exception as error:
            # A plain Exception, for one, where its processes are not up after 30 s.
            raise JobError(f"Ray did not start on this machine: {_last_line(error)} Start the job again.") from error
        return
    modules = [str(_ROOT / name) for name in _SHIPPED]
    try:
        if options.address.rpartition(":")[2].isdecimal():
            reach(options.address)
        ray.init(address=options.address, runtime_env={"py_modules": modules}, **quiet)
    except (OSError, ValueError) as error:
        cause = _last_line(error.__cause__ or error).partition(" Note:")[0]
        raise InputError(f"--address: expected a Ray cluster at {options.address}: {cause}") from error


def _workers(options: Options) -> int:
    """Workers to start: no more than there are free cores, for which Ray Data would wait without a word."""
    free = int(ray.available_resources().get("CPU", 0))
    asked = options.workers or free
    if not 1 <= asked <= free:
        total = int(ray.cluster_resources().get("CPU", 0))
        raise InputError(
            f"--workers: expected at most the {free} of {total} cores of the cluster that are free, got "
            f"{max(asked, 1)}: other actors hold cores; start those that only wait with num_cpus=0"
        )
    return asked


def _reason(error: BaseException) -> str:
    """What went wrong in a worker: Ray has its error as the text of a traceback, followed by advice of its own."""
    found = re.search(r"\bJobError: (.+)", str(error))
    return found[1] if found else next(iter(str(error).splitlines()), type(error).__name__)


def _last_line(error: BaseException) -> str:
    """What went wrong: of a traceback, its last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
