"""Whether the graphs give here what they gave at export: golden vectors, the golden sample, batch invariance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from autoencoder.v1.model_pb2 import Model, Signature
from numpy.typing import NDArray

from bundle import latents
from bundle.errors import BundleError
from bundle.golden import Golden, SampleCase, agrees, max_error
from bundle.latents import LatentStatistics
from server.session import Session


class SelfTestError(BundleError):
    """A graph does not give here what it gave at export."""


@dataclass(frozen=True)
class Parts:
    """What a version is made of, read and checked but not yet run."""

    model: Model
    golden: Golden
    statistics: LatentStatistics | None
    sessions: Mapping[str, Session]
    opset: int


def replay(signature: Signature, session: Session, golden: Golden) -> float:
    """Largest error over the golden cases of one graph.

    Raises:
        SelfTestError: it exceeds the tolerance, or a case is missing.
    """
    cases = golden.cases.get(signature.name, ())
    if not cases:
        raise SelfTestError(f"golden.npz: wanted a case for signature {signature.name!r}, got none")
    largest = 0.0
    for index, case in enumerate(cases):
        outputs = session.run(_golden_input(signature, case.inputs))
        for spec, actual in zip(signature.outputs, outputs, strict=True):
            expected = case.outputs.get(spec.name)
            if expected is None:
                raise SelfTestError(f"golden.npz: case {index} of {signature.name!r} has no {spec.name}")
            error = max_error(actual, expected)
            largest = max(largest, error)
            if not agrees(actual, expected, signature.golden_tolerance):
                raise SelfTestError(f"{signature.file}: golden case {index}: {spec.name} is {error:.3g} off")
    return largest


def _golden_input(signature: Signature, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    name = signature.inputs[0].name
    if name not in inputs:
        raise SelfTestError(f"golden.npz: a case of {signature.name!r} has no {name}")
    return np.ascontiguousarray(inputs[name])


def replay_sample(parts: Parts, case: SampleCase) -> None:
    """Compare what the golden seed draws: latents to the bit, images within tolerance.

    Raises:
        SelfTestError: they differ.
    """
    model, statistics = parts.model, parts.statistics
    if statistics is None:
        drawn = latents.standard(case.seed, 0, case.count, model.latent_size, case.temperature)
    else:
        drawn = statistics.sample(case.seed, 0, case.count, case.temperature, latents.prior(model.family))
    if not np.array_equal(drawn, case.latents):
        raise SelfTestError("golden.npz: the golden seed draws other latents here")
    decoder = next(signature for signature in model.signatures if signature.name == "decode")
    (images,) = parts.sessions["decode"].run(drawn)
    if not agrees(images, case.images, decoder.golden_tolerance):
        raise SelfTestError(f"{decoder.file}: the golden sample is {max_error(images, case.images):.3g} off")


def check_invariance(signature: Signature, session: Session, golden: Golden) -> None:
    """Compare each golden row alone with the row in company, to the bit.

    Raises:
        SelfTestError: they differ.
    """
    for case in golden.cases[signature.name]:
        batch = _golden_input(signature, case.inputs)
        together = session.run(batch)
        for row in range(len(batch)):
            alone = session.run(batch[row : row + 1])
            if not all(np.array_equal(a[0], b[row]) for a, b in zip(alone, together, strict=True)):
                raise SelfTestError(f"{signature.file}: claims that batches change no bit, but row {row} differs")
