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
from server.runtime.session import Session


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
        SelfTestError: it exceeds the tolerance.
    """
    largest = 0.0
    for index, case in enumerate(golden.cases[signature.name]):
        outputs = session.run(_golden_input(signature, case.inputs))
        for spec, actual in zip(signature.outputs, outputs, strict=True):
            expected = case.outputs[spec.name]
            error = max_error(actual, expected)
            largest = max(largest, error)
            if not agrees(actual, expected, signature.golden_tolerance):
                raise SelfTestError(f"{signature.file}: golden case {index}: {spec.name} is {error:.3g} off")
    return largest


def _golden_input(signature: Signature, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    return np.ascontiguousarray(inputs[signature.inputs[0].name])


def replay_sample(parts: Parts, case: SampleCase) -> None:
    """Compare what the golden seed draws: latents to the bit, images within tolerance.

    Raises:
        SelfTestError: they differ.
    """
    model = parts.model
    drawn = latents.draw(model.family, model.latent_size, parts.statistics, case.seed, 0, case.count, case.temperature)
    if drawn is None or drawn.tobytes() != case.latents.tobytes():
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
