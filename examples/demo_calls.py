"""The demo's calls: every method once for the picture, then repeatedly to measure latency."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from hourglass_client import Client
from numpy.typing import NDArray

from examples.demo_picture import Row
from examples.lecture_numbers import psnr

COLUMNS = 14
NOISE = 0.5
SEED = 7
TIMED_CALLS = 30


@dataclass(frozen=True)
class Timed:
    """One method on one model: a result in words, and the median latency of calls with one image."""

    method: str
    model: str
    milliseconds: float
    result: str


@dataclass
class Calls:
    """Results of the calls, and their number by method."""

    rows: list[Row] = field(default_factory=list)
    timed: list[Timed] = field(default_factory=list)
    made: dict[str, int] = field(default_factory=Counter)


def held_out(checkpoint: Path) -> NDArray[np.uint8]:
    """(N, H, W, C): images held out from training, one of each class if there are labels."""
    with np.load(checkpoint / "reference.npz", allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays.get("labels")
    if labels is None:
        return images[:COLUMNS]
    first = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    rest = [index for index in range(len(images)) if index not in first]
    return images[(first + rest)[:COLUMNS]]


def call_everything(client: Client, images: NDArray[np.uint8]) -> Calls:
    """Encodes, decodes, reconstructs, denoises and samples."""
    calls = Calls()
    calls.rows.append(Row("reconstruct", "held-out digits", "never seen in training", images.astype(np.float32) / 255))
    _encode_decode(client, images, calls)
    for model in ("fc-ae", "vae"):
        _reconstruct(client, images, model, calls)
    _denoise(client, images, calls)
    for model in ("vae", "fc-ae"):
        _sample(client, model, calls)
    return calls


def _encode_decode(client: Client, images: NDArray[np.uint8], calls: Calls) -> None:
    encoded = client.encode(images, model="fc-ae")
    decoded = client.decode(encoded.latents, model="fc-ae", image_format="float32")
    size = encoded.latents.shape[1]
    error = float(np.mean((decoded.images - images.astype(np.float32) / 255) ** 2))
    calls.made.update({"Encode": 1, "Decode": 1})
    _clock(calls, "Encode", "fc-ae", f"{size} numbers per image", lambda: client.encode(images[:1], model="fc-ae"))
    _clock(
        calls,
        "Decode",
        "fc-ae",
        f"squared error {error:.4f} per pixel after the way through {size} numbers",
        lambda: client.decode(encoded.latents[:1], model="fc-ae"),
    )


def _reconstruct(client: Client, images: NDArray[np.uint8], model: str, calls: Calls) -> None:
    answer = client.reconstruct(images, model=model, image_format="float32")
    error = float(answer.squared_errors.mean())
    calls.made["Reconstruct"] += 1
    calls.rows.append(Row("reconstruct", f"{model} reconstructions", f"squared error {error:.4f}", answer.images))
    _clock(
        calls,
        "Reconstruct",
        model,
        f"squared error {error:.4f} per pixel",
        lambda: client.reconstruct(images[:1], model=model),
    )


def _denoise(client: Client, images: NDArray[np.uint8], calls: Calls) -> None:
    clean = images.astype(np.float32) / 255
    noise = np.random.default_rng(SEED).normal(0, NOISE, clean.shape)
    noisy = np.clip(clean + noise, 0, 1).astype(np.float32)
    answer = client.denoise(noisy, model="denoiser", image_format="float32")
    before, after = psnr(clean, noisy), psnr(clean, answer.images)
    calls.made["Denoise"] += 1
    calls.rows.append(Row("denoise", "noisy digits", f"noise {NOISE}: {before:.1f} dB", noisy))
    calls.rows.append(Row("denoise", "denoised", f"{after:.1f} dB", answer.images))
    _clock(
        calls,
        "Denoise",
        "denoiser",
        f"{before:.1f} dB became {after:.1f} dB",
        lambda: client.denoise(noisy[:1], model="denoiser"),
    )


def _sample(client: Client, model: str, calls: Calls) -> None:
    answer = client.sample(COLUMNS, model=model, seed=SEED, image_format="float32")
    calls.made["Sample"] += 1
    calls.rows.append(Row("sample", f"{model} samples", f"seed {answer.seed}", answer.images))
    _clock(
        calls,
        "Sample",
        model,
        f"{COLUMNS} new images from seed {answer.seed}",
        lambda: client.sample(1, model=model, seed=SEED),
    )


def _clock(calls: Calls, method: str, model: str, result: str, call: Callable[[], object]) -> None:
    """Measure the latency of `call` and record it."""
    seconds: list[float] = []
    for _ in range(TIMED_CALLS):
        began = perf_counter()
        call()
        seconds.append(perf_counter() - began)
    calls.made[method] += TIMED_CALLS
    calls.timed.append(Timed(method, model, median(seconds) * 1e3, result))
