"""The gate of a variant in fewer bits: its loss against float32 must not matter, its gain must be measured."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.golden import Golden
from bundle.latents import LatentStatistics
from export.errors import Failure, GateError
from export.gate import gate
from export.gate.gate import Payoff, Subject, Verdict
from export.gate.inputs import encode, noisy
from export.gate.latency import speed_up
from export.gate.parity import Array, Measured, rounded_up
from export.gate.sampling import draw
from export.gate.sandbox import Isolation
from export.gate.selftest import golden_error, outputs
from export.graphs import methods
from export.graphs.methods import Method
from export.runtime import Device

CHECKS = ("structure", "batch invariance", "quality", "speed-up", "reproducibility")
MAX_PSNR_DROP_DB = 0.1
MIN_RANK_CORRELATION = 0.999
MIN_CLASS_AGREEMENT = 0.995
MIN_SPEED_UP = 1.2
_TIMED_BATCHES = (1, 32)
_SEED = 1
# A variant is compared with itself elsewhere: other processors round and accumulate otherwise.
_TOLERANCE_FACTOR = 2


def judge(variant: Subject, baseline: Subject, golden: Golden, apart: Isolation, device: Device) -> Verdict:
    """Pass the checks of a variant; `baseline` is the float32 model. Reproducibility is `exporter`'s.

    Raises:
        GateError: a check refused, the last of them because the variant is not worth its loss.
    """
    gate.check_structure(variant, apart)
    if variant.model is not baseline.model:
        gate.check_weights(variant)
    exact = gate.exact_methods(baseline.model)
    measured, latencies = gate.measure(variant, exact, apart, device)
    tolerances = golden_tolerances(variant.graphs, golden, apart, device)
    check_invariance(measured, tolerances)
    quality = gate.measured_quality(variant, exact, apart, device)
    payoff = measured_payoff(variant, baseline, apart, device)
    check_payoff(payoff, device)
    return Verdict(measured, latencies, quality, tolerances, payoff)


def golden_tolerances(
    graphs: Mapping[str, bytes], golden: Golden, apart: Isolation, device: Device
) -> dict[str, float]:
    """What the test of a server must allow each graph: twice its distance from the float32 network's answers."""
    tolerances: dict[str, float] = {}
    for name, graph in graphs.items():
        cases = golden.of(name)
        with gate.crash_refused("golden vectors", name):
            tolerances[name] = rounded_up(_TOLERANCE_FACTOR * apart.run(golden_error, graph, cases, device))
    return tolerances


def check_invariance(measured: Mapping[str, Measured], tolerances: Mapping[str, float]) -> None:
    """A row alone and in company no farther from each other than from the float32 network."""
    gate.refuse(
        "batch invariance",
        [
            Failure(name, "a row alone against the row in a batch", f"off by {each.alone_difference:.3g}")
            for name, each in measured.items()
            if not each.alone_difference <= tolerances[name]
        ],
    )


def measured_payoff(variant: Subject, baseline: Subject, apart: Isolation, device: Device) -> Payoff:
    """Loss and gain on the half of the held-out images that calibration did not see."""
    images = variant.images[len(variant.images) // 2 :]
    answers: dict[str, tuple[dict[str, Array], dict[str, Array]]] = {}
    gains: list[float] = []
    for method in methods.methods(baseline.model):
        inputs = real_inputs(method, images)
        with gate.crash_refused("quality", method.name):
            before = apart.run(outputs, baseline.graphs[method.name], [inputs], device)[0]
            after = apart.run(outputs, variant.graphs[method.name], [inputs], device)[0]
            graphs = baseline.graphs[method.name], variant.graphs[method.name]
            gains.append(apart.run(speed_up, *graphs, inputs, _TIMED_BATCHES, device))
        answers[method.name] = before, after
    return _payoff(answers, images, float(np.exp(np.mean(np.log(gains)))))


def check_payoff(payoff: Payoff, device: Device) -> None:
    """Loss within bounds, and a speed-up that is worth it."""
    bounds = [
        ("PSNR", f"falls by {payoff.psnr_drop_db:.3g} dB", payoff.psnr_drop_db <= MAX_PSNR_DROP_DB),
        (
            "anomaly ranking",
            f"correlates by {payoff.rank_correlation}",
            _least(payoff.rank_correlation, MIN_RANK_CORRELATION),
        ),
        ("classes", f"agree on {payoff.class_agreement}", _least(payoff.class_agreement, MIN_CLASS_AGREEMENT)),
    ]
    gate.refuse(
        "quality", [Failure("variant", name, f"{seen} against float32") for name, seen, fine in bounds if not fine]
    )
    if not payoff.speed_up >= MIN_SPEED_UP:
        seen = (
            f"{payoff.speed_up:.2f} times as fast as float32, expected {MIN_SPEED_UP}: it does not pay, serve float32"
        )
        raise GateError("speed-up", [Failure("variant", f"batches of {_TIMED_BATCHES} on {device}", seen)])


def real_inputs(method: Method, images: Array) -> dict[str, Array]:
    """What a method of the float32 network sees of held-out images (N, H, W, C) uint8."""
    if method.name == "decode":
        return {"latents": encode(method.model, images)}
    return {"images": noisy(images) if method.name == "denoise" else images}


def calibration(method: Method, images: Array, latents: LatentStatistics | None) -> dict[str, Array]:
    """Inputs that the scales of a method must span: held-out images, and for a decoder also what `Sample` draws."""
    inputs = real_inputs(method, images)
    model = method.model
    drawn = draw(model.family, model.latent_size, latents, _SEED, len(images)) if method.name == "decode" else None
    return inputs if drawn is None else {"latents": np.concatenate([inputs["latents"], drawn])}


def _payoff(answers: Mapping[str, tuple[dict[str, Array], dict[str, Array]]], images: Array, gain: float) -> Payoff:
    name, output = ("denoise", "denoised") if "denoise" in answers else ("reconstruct", "reconstructions")
    errors = [_error(each[output], images) for each in answers[name]]
    drop = 10 * float(np.log10(errors[1] / errors[0]))
    scores = [each["squared_errors"] for each in answers.get("reconstruct", ())]
    classes = [each["probabilities"] for each in answers.get("classify", ())]
    return Payoff(
        psnr_drop_db=drop,
        rank_correlation=_correlation(*map(_ranks, scores)) if scores else None,
        class_agreement=_agreement(*classes) if classes else None,
        speed_up=gain,
    )


def _error(pictures: Array, images: Array) -> float:
    return max(float(np.mean((pictures.astype(np.float64) - images / 255) ** 2)), 1e-30)


def _correlation(first: NDArray[np.intp], second: NDArray[np.intp]) -> float:
    return float(np.corrcoef(first, second)[0, 1])


def _agreement(first: Array, second: Array) -> float:
    """Share of rows with the same most probable class."""
    same: NDArray[np.bool_] = np.equal(np.argmax(first, axis=1), np.argmax(second, axis=1))
    return float(np.mean(same))


def _ranks(scores: Array) -> NDArray[np.intp]:
    ranks = np.empty(len(scores), np.intp)
    order: Any = np.argsort(scores)
    ranks[order] = np.arange(len(scores))
    return ranks


def _least(seen: float | None, bound: float) -> bool:
    return seen is None or seen >= bound
