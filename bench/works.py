"""Workloads, on models trained for the purpose: their speed does not depend on how long they were trained.

`python -m bench.works` only makes the models.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

from bench.machine import calls_per_second
from bench.targets import Work

ROOT = Path(__file__).resolve().parents[1]
WORKSPACE = ROOT / "build" / "bench"
# Of `make build/openvino/ready`: onnxruntime-openvino needs an environment of its own.
BFLOAT16_PYTHON = ROOT / "build" / "openvino" / "bin" / "python"
BFLOAT16_MODELS = WORKSPACE / "bfloat16"
RECIPES = {"fc-ae": "2", "denoiser": "1"}
BATCH = 64
LIMIT_SECONDS = 0.5
LIMIT_REPEATS = 5


def make_models(runs: Path, models: Path) -> None:
    """Train and export the models that do not exist yet."""
    for recipe, epochs in RECIPES.items():
        if not (models / recipe / "1" / "model.json").exists():
            _python(
                "training", recipe, "--data", "digits", "--epochs", epochs, "--overwrite", "--out", str(runs / recipe)
            )
            _python("export", str(runs / recipe), "--repository", str(models))
    # The encoder is refused as a variant: it is slower in bfloat16.
    if BFLOAT16_PYTHON.exists() and not (BFLOAT16_MODELS / "denoiser").exists():
        variant = ("--precision", "bfloat16", "--repository", str(BFLOAT16_MODELS))
        _python("export", str(runs / "denoiser"), *variant, python=BFLOAT16_PYTHON)


def works(runs: Path, models: Path) -> dict[str, Work]:
    """Workloads by name: one uint8 image, 64 of them, one noisy float32 image."""
    with np.load(runs / "fc-ae" / "best" / "reference.npz", allow_pickle=False) as arrays:
        images = arrays["images"][:BATCH]
    noise = np.random.default_rng(0).normal(0, 0.5, images[:1].shape)
    noisy = np.clip(images[:1] / 255 + noise, 0, 1).astype(np.float32)
    made = [
        _work(models, "encode 1 image", "fc-ae", "encode", images[:1]),
        _work(models, f"encode {BATCH} images", "fc-ae", "encode", images),
        _work(models, "denoise 1 image", "denoiser", "denoise", noisy),
    ]
    return {work.name: work for work in made}


def limits(models: Path, workloads: dict[str, Work]) -> dict[str, float]:
    """Runs per second of onnxruntime alone, in one thread, without a server: the limit of one core."""
    return {work.name: _runs_per_second(_session(models, work), work) for work in workloads.values()}


def _work(models: Path, name: str, model: str, signature: str, inputs: np.ndarray) -> Work:
    work = Work(name, model, signature, inputs, np.empty(0, np.float32))
    return Work(name, model, signature, inputs, _session(models, work).run(None, {"images": inputs})[0])


def _session(models: Path, work: Work) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    file = models / work.model / "1" / f"{work.signature}.onnx"
    return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _runs_per_second(session: ort.InferenceSession, work: Work) -> float:
    feeds = {"images": work.inputs}
    rates = [calls_per_second(lambda: session.run(None, feeds), LIMIT_SECONDS) for _ in range(LIMIT_REPEATS)]
    return float(np.median(rates))


def _python(module: str, *arguments: str, python: Path = Path(sys.executable)) -> None:
    subprocess.run([str(python), "-m", module, *arguments], check=True)


if __name__ == "__main__":
    make_models(WORKSPACE / "runs", WORKSPACE / "models")
