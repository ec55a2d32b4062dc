"""Measure batch inference: images a second on one core and on two, against a plain loop around onnxruntime.

    python -m bench.studies.batch_inference BUNDLE IMAGES [--task encode] [--noise-level 0.1] [--cores 1 2]

The loop is what one writes in ten minutes: Pillow, a session, batches of 256, or single images where sizes differ,
a Parquet file at the end. On one core both are pinned to it, Ray's own processes included. Rates of the job are between
the first part that is finished and the last: without the seconds in which Ray starts and the workers load the model.
"""

import argparse
import io
import os
import shutil
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from bundle import layout
from deploy.batch.job import Job
from deploy.batch.options import BATCH_IMAGES, Options


def plain(bundle: Path, images: Path, task: str, level: float | None) -> float:
    """Images a second of a plain loop on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    model = layout.read_model(bundle)
    (signature,) = (each for each in model.signatures if each.name == task)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle / signature.file, options, providers=["CPUExecutionProvider"])
    paths = sorted(images.rglob("*.png"))
    free = signature.inputs[0].shape[1] < 1
    size = 1 if free else BATCH_IMAGES
    names = [each.name for each in session.get_inputs()]
    beside = np.full(1, level or 0, np.float32)
    outputs: list[object] = []
    started = time.perf_counter()
    for start in range(0, len(paths), size):
        batch = np.stack([_decoded(path, signature.inputs[0].shape[3]) for path in paths[start : start + size]])
        if "float" in session.get_inputs()[0].type:
            batch = batch.astype(np.float32) / 255
        (first, *_) = session.run(None, {names[0]: batch, **dict.fromkeys(names[1:], beside)})
        outputs.extend(_png(each) for each in first) if task == "denoise" else outputs.extend(first)
    table = pa.table({"path": [str(path) for path in paths], "output": pa.array(outputs)})
    pq.write_table(table, io.BytesIO())
    return len(paths) / (time.perf_counter() - started)


def job(bundle: Path, images: Path, task: str, level: float | None, cores: int) -> tuple[float, float]:
    """Images a second of the job: steadily, and of the whole command."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    folder = tempfile.mkdtemp()
    started = time.perf_counter()
    places = {"bundle": str(bundle), "images": str(images), "output": folder}
    options = Options(task=task, **places, noise_level=level, workers=cores)
    work = Job(options, {})
    times: list[float] = []
    counts: list[int] = []
    for done in work.run():
        times.append(time.perf_counter())
        counts.append(done.images)
    seconds = time.perf_counter() - started
    shutil.rmtree(folder)
    return sum(counts[1:]) / (times[-1] - times[0]), sum(counts) / seconds


def main() -> None:
    """Measure and print, each in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--task", default="encode")
    parser.add_argument("--noise-level", type=float)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    given = (options.bundle, options.images, options.task, options.noise_level)
    with get_context("spawn").Pool(1) as pool:
        base = pool.apply(plain, given)
    print(f"plain loop, one core: {base:,.0f} images/s")
    for cores in options.cores:
        with get_context("spawn").Pool(1) as pool:
            steady, whole = pool.apply(job, (*given, cores))
        ratio = f"{steady / base:.2f} of the loop"
        print(f"job, {cores} core(s): {steady:,.0f} images/s ({ratio}), {whole:,.0f} with the start")


def _decoded(path: Path, channels: int) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(image.height, image.width, channels)


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    pixels = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


if __name__ == "__main__":
    main()
