"""The gate of quantised variants: the loss of quality against float32 must be small, the gain in speed measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from autoencoder.v1.model_pb2 import Signature
from numpy.typing import NDArray

from bundle import latents
from bundle.golden import TEMPERATURE, Array, Golden
from bundle.latents import LatentStatistics
from bundle.replay import RowDifference
from bundle.runtime_options import BFLOAT16, Device
from export.gate import checks
from export.gate.checks import BATCH_INVARIANCE, STRUCTURE, Check, Finding, crash_refused
from export.gate.gate import BOUNDS, WEIGHTS, CheckedGraphs, GateResult, GateRun, Tradeoff
from export.gate.images import pixels, resized
from export.gate.inputs import real
from export.gate.latency import speed_up
from export.gate.parity import golden_error, outputs, rounded_up
from export.gate.sandbox import Sandbox
from export.gate.structure import ONNX_CHECKER
from export.gate.tiling.tiles import TILES
from export.graphs import methods, tensor_specs
from export.graphs.methods import Method
from export.graphs.quantization import KEPT, Precision, in_fewer_bits

MAX_PSNR_DROP_DB = 0.1
MIN_RANK_CORRELATION = 0.999
MIN_CLASS_AGREEMENT = 0.995
MIN_SPEED_UP = 1.2
_TIMED_BATCHES = (1, 32)
_SEED = 1
# A variant is compared with itself elsewhere: other processors round and accumulate otherwise.
_TOLERANCE_FACTOR = 2


@dataclass(kw_only=True)
class VariantRun(GateRun):
    """A variant on its way through the gate, with the float32 graphs that it was made from."""

    baseline_graphs: Mapping[str, bytes]
    baseline_device: Device = "cpu"

    @cached_property
    def tolerances(self) -> dict[str, float]:
        """What the self-test of a server must allow each graph in fewer bits."""
        changed = {name: graph for name, graph in self.graphs.items() if name not in self.kept}
        return golden_tolerances(changed, self.golden, self.sandbox, self.device)

    @cached_property
    def tradeoff(self) -> Tradeoff:
        """Loss and gain on the half of the held-out images that calibration did not see."""
        images = resized(self.images, self.about.shapes.padded(*self.images.shape[1:3]))[len(self.images) // 2 :]
        answers: dict[str, tuple[dict[str, Array], dict[str, Array]]] = {}
        gains: list[float] = []
        for method in in_fewer_bits(self.network):
            inputs = real_inputs(method, images)
            graphs = self.baseline_graphs[method.name], self.graphs[method.name]
            devices = self.baseline_device, self.device
            with crash_refused("quality", method.name):
                before, after = (
                    self.sandbox.run(outputs, graph, [inputs], device)[0]
                    for graph, device in zip(graphs, devices, strict=True)
                )
                gains.append(self.sandbox.run(speed_up, *graphs, inputs, _TIMED_BATCHES, devices))
            answers[method.name] = before, after
        return _tradeoff(answers, images, float(np.exp(np.mean(np.log(gains)))))

    def row_difference(self, signature: Signature) -> RowDifference:
        """How far a row alone is from the same row in a batch; a variant allows its distance from float32."""
        difference = super().row_difference(signature)
        if signature.name in self.kept:
            return difference
        largest, tolerance = difference.largest, self.tolerances[signature.name]
        return RowDifference(largest, largest / tolerance if tolerance > 0 else np.inf)


def run_checks(
    variant: CheckedGraphs,
    baseline: CheckedGraphs,
    golden: Golden,
    sandbox: Sandbox,
    device: Device,
    precision: Precision,
) -> GateResult:
    """Run the checks of a variant; `baseline` is the float32 model. Reproducibility is `exporter`'s.

    Graphs in bfloat16 are those of the baseline, on a device of their own; what they must beat is float32 on the CPU.

    Raises:
        GateError: a check refused, the last of them because the variant is not worth its loss.
    """
    variant_run = VariantRun(
        signatures=variant.signatures,
        graphs=variant.graphs,
        golden=golden,
        sandbox=sandbox,
        device="openvino-bfloat16" if precision == BFLOAT16 else device,
        network=baseline.model,
        model=variant.model,
        images=variant.images,
        baseline_graphs=baseline.graphs,
        baseline_device="cpu" if precision == BFLOAT16 else device,
        is_variant=True,
        kept=frozenset() if precision == BFLOAT16 else frozenset(KEPT & variant.graphs.keys()),
    )
    wanted: Sequence[Check[VariantRun]] = INT8_CHECKS if precision == "int8" else FLOAT16_CHECKS
    passed = checks.run((*wanted, TILES) if variant_run.about.shapes.free else wanted, variant_run)
    return GateResult(
        passed,
        variant_run.measured,
        variant_run.latencies_ms,
        variant_run.quality,
        variant_run.tolerances,
        variant_run.tradeoff,
        variant_run.tiled,
    )


def golden_tolerances(
    graphs: Mapping[str, bytes], golden: Golden, sandbox: Sandbox, device: Device
) -> dict[str, float]:
    """Tolerance of each graph's golden vectors: twice its distance from the float32 network's answers."""
    tolerances: dict[str, float] = {}
    for name, graph in graphs.items():
        cases = golden.of(name)
        with crash_refused("golden vectors", name):
            tolerances[name] = rounded_up(_TOLERANCE_FACTOR * sandbox.run(golden_error, graph, cases, device))
    return tolerances


def loss_findings(tradeoff: Tradeoff) -> Iterator[Finding]:
    """Quality against float32, within its bounds or not."""
    drop, ranking, classes = tradeoff.psnr_drop_db, tradeoff.rank_correlation, tradeoff.class_agreement
    for where, seen, passed in (
        ("PSNR", f"falls by {drop:.3g} dB", drop <= MAX_PSNR_DROP_DB),
        ("anomaly ranking", f"correlates by {ranking}", ranking is None or ranking >= MIN_RANK_CORRELATION),
        ("classes", f"agree on {classes}", classes is None or classes >= MIN_CLASS_AGREEMENT),
    ):
        yield Finding("variant", f"{seen} against float32", passed=passed, where=where)


def speed_findings(tradeoff: Tradeoff, device: Device) -> Iterator[Finding]:
    """Speed against float32, worth the loss or not."""
    yield Finding(
        "variant",
        f"{tradeoff.speed_up:.2f} times as fast as float32, expected {MIN_SPEED_UP}: it does not pay, serve float32",
        passed=tradeoff.speed_up >= MIN_SPEED_UP,
        where=f"batches of {_TIMED_BATCHES} on {device}",
    )


def real_inputs(method: Method, images: Array) -> dict[str, Array]:
    """What a method of the float32 network gets of held-out images (N, H, W, C): arrays by the names of its inputs."""
    about = methods.facts(method.model)
    signature = tensor_specs.signature(method.name, about)
    arrays = real(method, signature, resized(images, about.shapes.padded(*images.shape[1:3])))
    return dict(zip([spec.name for spec in signature.inputs], arrays, strict=True))


def calibration(method: Method, images: Array, statistics: LatentStatistics | None) -> dict[str, Array]:
    """Inputs that the scales of a method must span: held-out images, and for a decoder also what `Sample` draws."""
    inputs = real_inputs(method, images)
    if method.name != "decode":
        return inputs
    shape = inputs["latents"].shape[1:]
    drawn = latents.draw(method.model.family, shape, statistics, _SEED, 0, len(images), TEMPERATURE)
    return inputs if drawn is None else {"latents": np.concatenate([inputs["latents"], drawn])}


def _tradeoff(answers: Mapping[str, tuple[dict[str, Array], dict[str, Array]]], images: Array, gain: float) -> Tradeoff:
    name, output = ("denoise", "denoised") if "denoise" in answers else ("reconstruct", "reconstructions")
    errors = [_error(each[output], images) for each in answers[name]]
    drop = 10 * float(np.log10(errors[1] / errors[0]))
    scores = [each["squared_errors"] for each in answers.get("reconstruct", ()) if "squared_errors" in each]
    classes = [each["probabilities"] for each in answers.get("classify", ())]
    return Tradeoff(
        psnr_drop_db=drop,
        rank_correlation=_correlation(*map(_ranks, scores)) if scores else None,
        class_agreement=_agreement(*classes) if classes else None,
        speed_up=gain,
    )


def _error(pictures: Array, images: Array) -> float:
    return max(float(np.mean((pictures.astype(np.float64) - pixels(images, np.float64)) ** 2)), 1e-30)


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


LOSS: Check[VariantRun] = Check("quality", lambda variant_run: loss_findings(variant_run.tradeoff))
"""PSNR, the ranking of anomalies and the classes are close to those of float32."""
SPEED_UP: Check[VariantRun] = Check(
    "speed-up", lambda variant_run: speed_findings(variant_run.tradeoff, variant_run.device)
)
"""The variant is faster by as much as its loss is worth."""
FLOAT16_CHECKS = (STRUCTURE, ONNX_CHECKER, BOUNDS, WEIGHTS, BATCH_INVARIANCE, LOSS, SPEED_UP)
# No number of the checkpoint is left in eight bits.
INT8_CHECKS = (STRUCTURE, ONNX_CHECKER, BOUNDS, BATCH_INVARIANCE, LOSS, SPEED_UP)
