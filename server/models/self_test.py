"""Self-test of a loaded bundle: golden vectors, the golden sample and batch invariance must be here as at export."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from autoencoder.v1.model_pb2 import Model, Signature
from numpy.typing import NDArray

from bundle import replay as bundle_replay
from bundle.errors import BundleError
from bundle.golden import Golden, SampleCase
from bundle.latents import LatentStatistics
from bundle.replay import Run
from server.runtime.providers import ExecutionProvider
from server.runtime.session import Session
from server.types import Array


class SelfTestError(BundleError):
    """A graph does not give here what it gave at export."""


@dataclass(frozen=True)
class LoadedBundle:
    """A bundle that was read and checked, with its graphs loaded but not yet run."""

    model: Model
    golden: Golden
    statistics: LatentStatistics | None
    provider: ExecutionProvider
    sessions: Mapping[str, Session]
    opset: int
    untiled_pixels: Mapping[str, int] = field(default_factory=dict[str, int])
    """By signature: most pixels of an image that a graph of free sizes and without tiles runs."""

    @property
    def density(self) -> Callable[[Array], Sequence[Array]] | None:
        """Computes the log-density of latents (N, D) under a learned prior, (N,); None without one."""
        session = self.sessions.get("log_density")
        return None if session is None else session.run


def replay(signature: Signature, session: Session, golden: Golden) -> float:
    """Largest error over the golden cases of one graph.

    Raises:
        SelfTestError: it exceeds the tolerance.
    """
    largest = 0.0
    run = _runner(signature, session)
    for seen in bundle_replay.golden_vectors(run, golden.cases[signature.name], signature.golden_tolerance):
        if not seen.agrees:
            raise SelfTestError(f"{signature.file}: golden {seen}")
        largest = max(largest, seen.max_error)
    return largest


def replay_sample(bundle: LoadedBundle, case: SampleCase) -> None:
    """Compare what the golden seed draws: latents, or a learned prior's noise, to the bit, the rest within tolerance.

    Raises:
        SelfTestError: they differ.
    """
    if not bundle_replay.draws_golden_latents(bundle.model, bundle.statistics, case):
        raise SelfTestError("golden.npz: the golden seed draws other latents here")
    steps = {"decode": case.decoded, "prior": case.drawn}
    for signature in bundle.model.signatures:
        step = steps.get(signature.name)
        run = _runner(signature, bundle.sessions[signature.name])
        for seen in bundle_replay.golden_vectors(run, () if step is None else [step], signature.golden_tolerance):
            if not seen.agrees:
                raise SelfTestError(f"{signature.file}: the golden sample is off by {seen.max_error:.3g}")


def check_invariance(signature: Signature, session: Session, golden: Golden) -> None:
    """Compare each golden row alone with the same row in its batch, to the bit.

    Raises:
        SelfTestError: they differ.
    """
    run = _runner(signature, session)
    for case in golden.cases[signature.name]:
        rows, *beside = (case.inputs[spec.name] for spec in signature.inputs)
        found = bundle_replay.batch_invariance(run, rows, [range(len(rows))], compared=len(rows), beside=beside)
        if found.largest != 0:
            raise SelfTestError(
                f"{signature.file}: claims that batches change no bit, but a row alone differs by {found.largest:.3g} "
                "from the same row in a batch"
            )


def prove_tiles(signature: Signature, session: Session, noise_level: float) -> bool:
    """Compare tiles with a whole image that is a little larger; return whether they have the same bits.

    Raises:
        SelfTestError: they differ by more than the tolerance, or the graph has outputs that cannot be made of tiles.
    """
    for spec in signature.outputs:
        if len(spec.shape) != len(signature.inputs[0].shape):
            raise SelfTestError(f"{signature.file}: expected {spec.name} with height and width, as tiles are pasted")
    beside = [np.full(1, noise_level, np.float32)] * (len(signature.inputs) - 1)
    found = bundle_replay.tiles_agree(_runner(signature, session), signature, beside)
    if found.excess > 1:
        raise SelfTestError(
            f"{signature.file}: tiles with the halo {signature.tiling.halo} of model.json differ by "
            f"{found.largest:.3g} from the whole image: export it with this version"
        )
    return found.largest == 0


def _runner(signature: Signature, session: Session) -> Run:
    names = [spec.name for spec in signature.outputs]

    def run(*inputs: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
        return dict(zip(names, session.run(*inputs), strict=True))

    return run
