"""`hourglass bench`: a quick load test of a server through the Python client."""

import threading
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from autoencoder.v1.shapes import Shapes

from hourglass_client.cli.inputs import UsageError
from hourglass_client.cli.results import Result
from hourglass_client.client import Client
from hourglass_client.errors import HourglassError

_PERCENTILES = (50, 90, 99, 99.9)
_WARM_UP_CALLS = 3
# Of images of models that take any size.
_FREE_SIDE = 256


@dataclass
class Tally:
    """Measurements of one caller: seconds of each answered call, and failures by status."""

    seconds: list[float] = field(default_factory=list[float])
    failures: Counter[str] = field(default_factory=Counter[str])


def bench(client: Client, arguments: Namespace) -> Result:
    """Closed loop: each caller sends its next request as soon as it has an answer."""
    call = _call(client, arguments)
    for _ in range(_WARM_UP_CALLS):
        call()
    stop = threading.Event()
    started = time.monotonic()
    with ThreadPoolExecutor(arguments.callers) as pool:
        futures = [pool.submit(_ask, call, stop) for _ in range(arguments.callers)]
        try:
            time.sleep(arguments.seconds)
        finally:
            stop.set()
        tallies = [future.result() for future in futures]
    return _report(tallies, time.monotonic() - started, arguments)


def _ask(call: Callable[[], object], stop: threading.Event) -> Tally:
    tally = Tally()
    while not stop.is_set():
        started = time.monotonic()
        try:
            call()
        except HourglassError as error:
            tally.failures[error.code.name] += 1
        else:
            tally.seconds.append(time.monotonic() - started)
    return tally


def _report(tallies: list[Tally], seconds: float, arguments: Namespace) -> Result:
    times_ms = np.array([one for tally in tallies for one in tally.seconds]) * 1000
    failures = sum((tally.failures for tally in tallies), Counter[str]())
    if not len(times_ms):
        raise UsageError(f"no request was answered; failures: {dict(failures)}")
    rate = len(times_ms) / seconds
    facts: dict[str, object] = {
        "method": arguments.method,
        "callers": arguments.callers,
        "rows": arguments.rows,
        "seconds": seconds,
        "requests_per_second": rate,
        "rows_per_second": rate * arguments.rows,
        "failures": dict(failures),
    }
    rows: list[dict[str, object]] = [
        {"percentile": f"p{level:g}", "milliseconds": float(np.percentile(times_ms, level))} for level in _PERCENTILES
    ]
    rows.append({"percentile": "max", "milliseconds": float(times_ms.max())})
    return Result(facts, rows)


def _call(client: Client, arguments: Namespace) -> Callable[[], object]:
    """The call to repeat, on noise of the model's input shape."""
    model = client.get_model(arguments.model, arguments.version)
    target: dict[str, Any] = {"model": arguments.model, "version": arguments.version}
    noise = np.random.default_rng(0)
    shapes = Shapes.of(model)
    side = max(_FREE_SIDE, shapes.minimum)
    shapes = shapes.sized(shapes.padded(side, side))
    images = noise.integers(0, 256, (arguments.rows, *shapes.image), np.uint8)
    if arguments.method == "decode":
        latents = noise.normal(size=(arguments.rows, *shapes.latent)).astype(np.float32)
        return partial(client.decode, latents, **target)
    if arguments.method == "sample":
        size = {"height": side, "width": side} if model.sizes.multiple else {}
        return partial(client.sample, arguments.rows, **target, **size, seed=0)
    methods: dict[str, Callable[..., object]] = {
        "encode": client.encode,
        "reconstruct": client.reconstruct,
        "denoise": client.denoise,
        "classify": client.classify,
        "detect": client.detect,
        "score": client.score,
    }
    return partial(methods[arguments.method], images, **target)
