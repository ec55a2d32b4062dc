"""Command line of batch inference: a model over all images of a folder, a bucket or Parquet files, on Ray.

python -m deploy.batch encode BUNDLE IMAGES OUTPUT        images to latents
python -m deploy.batch denoise BUNDLE IMAGES OUTPUT       noisy images to clean ones
python -m deploy.batch reconstruct BUNDLE IMAGES OUTPUT   images through the bottleneck and back, with errors
python -m deploy.batch detect BUNDLE IMAGES OUTPUT        anomaly scores and regions

BUNDLE is <repository>/<name>/<version>. Each may be a folder or a URL that fsspec knows. OUTPUT/parts gets Parquet
files with a row for each image. Started again, an interrupted job does what is left. Exit codes: 0 all images done,
1 done but for images with an `error`, 2 refused or ended early.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence

# Before numpy loads: a worker has one core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray Data gives actors their arguments in a way that Ray itself warns about.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

from deploy.batch.errors import InputError, JobError
from deploy.batch.options import BATCH_IMAGES, MAX_PART_IMAGES, Options

_SHOWN = 10
_EXTRA = {"ray", "pyarrow", "fsspec", "pandas", "tqdm", "onnxruntime"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or continue a job; see above for the exit code."""
    options = Options(**vars(_parser().parse_args(arguments)))
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("deploy.batch: interrupted: start the job again, and it goes on with what is left", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        cure = "pip install '.[cluster,server,cpu]' in a checkout"
        print(f"deploy.batch: this needs {error.name}: {cure}", file=sys.stderr)
    except (InputError, JobError) as error:
        print(f"deploy.batch: {error}", file=sys.stderr)
    return 2


def _run(options: Options) -> int:
    # Imported only with valid options: Ray takes a second to load.
    from tqdm import tqdm  # noqa: PLC0415

    from deploy.batch.job import Job  # noqa: PLC0415

    job = Job(options, os.environ)
    left = sum(part.rows for part in job.left)
    if left < job.images:
        print(f"{job.images - left} of {job.images} images are done already", file=sys.stderr)
    started, shown = time.monotonic(), 0
    with tqdm(total=job.images, initial=job.images - left, unit=" images", smoothing=0.05) as bar:
        for done in job.run():
            bar.update(done.images)
            for problem in done.problems.splitlines()[: max(_SHOWN - shown, 0)]:
                bar.write(problem, sys.stderr)
                shown += 1
    seconds = time.monotonic() - started
    total = job.total()
    rate = f", {left} of them now in {seconds:.1f} s" if left else ""
    failed = f", {total.failed} of them with an `error`" if total.failed else ""
    print(f"{total.images} images in {options.output.rstrip('/')}/parts{rate}{failed}")
    return 1 if total.failed else 0


def _parser() -> argparse.ArgumentParser:
    described = (__doc__ or "").partition("\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m deploy.batch", description=described[2], formatter_class=raw, allow_abbrev=False
    )
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    for task in ("encode", "denoise", "reconstruct", "detect"):
        command = tasks.add_parser(task, allow_abbrev=False)
        _add_common(command)
        if task == "denoise":
            command.add_argument(
                "--noise-level", type=float, help="standard deviation of the noise, in images of 0 … 1"
            )
        if task == "detect":
            command.add_argument("--false-alarm-rate", type=float, help="rate to take the calibrated thresholds of")
            command.add_argument("--threshold", type=float, help="score above which an image is anomalous")
            command.add_argument("--map-threshold", type=float, help="value above which a pixel is in a region")
    return parser


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("bundle", metavar="BUNDLE", help="<repository>/<name>/<version>")
    command.add_argument(
        "images", metavar="IMAGES", help="folder of image files, or of Parquet files with them in a column"
    )
    command.add_argument(
        "output", metavar="OUTPUT", help="folder for the results, which a job started again finds there"
    )
    command.add_argument(
        "--image-column", default="image", help="of Parquet files: binary, or struct with `bytes` (image)"
    )
    command.add_argument("--id-column", default="", help="of Parquet files; without it an id is <file>:<row>")
    command.add_argument("--resize", action="store_true", help="resize images to the model's size")
    command.add_argument("--workers", type=int, default=0, help="actors, of one core each; 0: one for each free core")
    command.add_argument("--address", default="", help="of a Ray cluster, as host:port; without it Ray starts here")
    command.add_argument(
        "--batch-images", type=int, default=BATCH_IMAGES, help=f"most images decoded and run together ({BATCH_IMAGES})"
    )
    command.add_argument(
        "--part-images", type=int, default=MAX_PART_IMAGES, help=f"most images of a part ({MAX_PART_IMAGES})"
    )


if __name__ == "__main__":
    sys.exit(main())
