import dataclasses
import re

import numpy as np
import pytest
from autoencoder.v1.model_pb2 import Signature
from torch import nn

from bundle.golden import Golden
from export.errors import GateError
from export.gate import checks, gate, quantized
from export.gate.checks import BATCH_INVARIANCE
from export.gate.gate import CheckedGraphs, Tradeoff
from export.gate.parity import Measured, golden_problems
from export.gate.quantized import LOSS, SPEED_UP, VariantRun
from export.gate.sandbox import Sandbox
from export.graphs.quantization import quantised

GOOD = Tradeoff(psnr_drop_db=0.05, rank_correlation=0.9999, class_agreement=0.999, speed_up=1.5)


def run_of(variant: CheckedGraphs, baseline: CheckedGraphs, sandbox: Sandbox) -> VariantRun:
    return VariantRun(
        signatures=variant.signatures,
        graphs=variant.graphs,
        golden=Golden({}),
        sandbox=sandbox,
        network=baseline.model,
        model=variant.model,
        images=variant.images,
        baseline_graphs=baseline.graphs,
    )


def measured_run(tradeoff: Tradeoff) -> VariantRun:
    """A run whose trade-off is known already."""
    model, signatures = nn.Identity(), list[Signature]()
    variant_run = VariantRun(
        signatures=signatures,
        graphs={},
        golden=Golden({}),
        sandbox=Sandbox(),
        network=model,
        model=model,
        images=np.zeros((0, 8, 8, 1), np.uint8),
        baseline_graphs={},
    )
    variant_run.tradeoff = tradeoff
    return variant_run


@pytest.fixture(scope="module")
def variant(checked: dict[str, CheckedGraphs], sandbox: Sandbox) -> CheckedGraphs:
    """The multitask model in eight bits."""
    baseline = checked["multitask"]
    methods = gate.methods.methods(baseline.model)
    inputs = {method.name: quantized.calibration(method, baseline.images, None) for method in methods}
    graphs = {name: sandbox.run(quantised, graph, inputs[name]) for name, graph in baseline.graphs.items()}
    return dataclasses.replace(baseline, graphs=graphs)


def test_loss_and_gain_are_measured(
    variant: CheckedGraphs, checked: dict[str, CheckedGraphs], sandbox: Sandbox
) -> None:
    tradeoff = run_of(variant, checked["multitask"], sandbox).tradeoff
    assert 0 < abs(tradeoff.psnr_drop_db) < 1
    assert tradeoff.rank_correlation is not None
    assert 0.9 < tradeoff.rank_correlation <= 1
    assert tradeoff.class_agreement is not None
    assert 0.8 < tradeoff.class_agreement <= 1
    assert tradeoff.speed_up > 0


def test_a_model_loses_nothing_against_itself(checked: dict[str, CheckedGraphs], sandbox: Sandbox) -> None:
    tradeoff = run_of(checked["denoiser"], checked["denoiser"], sandbox).tradeoff
    assert tradeoff.psnr_drop_db == 0
    assert tradeoff.rank_correlation is None
    assert tradeoff.class_agreement is None


def test_the_golden_tolerance_is_what_the_variant_needs(
    variant: CheckedGraphs, goldens: dict[str, Golden], sandbox: Sandbox
) -> None:
    tolerances = quantized.golden_tolerances(variant.graphs, goldens["multitask"], sandbox, "cpu")
    assert tolerances.keys() == variant.graphs.keys()
    for name, graph in variant.graphs.items():
        cases = goldens["multitask"].cases[name]
        assert sandbox.run(golden_problems, graph, cases) != []
        assert sandbox.run(golden_problems, graph, cases, tolerances[name]) == []
        # That of the decoder also covers the golden sample, which is not a case.
        if name != "decode":
            assert sandbox.run(golden_problems, graph, cases, tolerances[name] / 4) != []


@pytest.mark.parametrize(
    ("change", "check", "message"),
    [
        ({"psnr_drop_db": 0.11}, "quality", "PSNR: falls by 0.11 dB"),
        ({"psnr_drop_db": float("nan")}, "quality", "PSNR"),
        ({"rank_correlation": 0.99}, "quality", "anomaly ranking"),
        ({"class_agreement": 0.99}, "quality", "classes"),
        ({"speed_up": 1.19}, "speed-up", "it does not pay, serve float32"),
    ],
)
def test_what_does_not_pay_is_refused(change: dict[str, float], check: str, message: str) -> None:
    variant_run = measured_run(dataclasses.replace(GOOD, **change))
    with pytest.raises(GateError, match=re.escape(message)) as refusal:
        checks.run((LOSS, SPEED_UP), variant_run)
    assert refusal.value.check == check


def test_what_pays_passes() -> None:
    for tradeoff in (GOOD, dataclasses.replace(GOOD, rank_correlation=None, class_agreement=None)):
        assert checks.run((LOSS, SPEED_UP), measured_run(tradeoff)) == ("quality", "speed-up")


def test_rows_that_see_each_other_are_refused() -> None:
    measured = {"encode": Measured((), alone_difference=0.02, alone_excess=np.inf, batches=())}
    variant_run = measured_run(GOOD)
    variant_run.signatures = [Signature(name="encode")]
    variant_run.measured = measured
    variant_run.tolerances = {"encode": 0.03}
    checks.run((BATCH_INVARIANCE,), variant_run)
    for too_small in (0.01, 0.0):
        variant_run.tolerances = {"encode": too_small}
        with pytest.raises(GateError, match=r"off by 0\.02"):
            checks.run((BATCH_INVARIANCE,), variant_run)


def test_weights_are_checked_where_they_are_the_checkpoints() -> None:
    assert [check.name for check in quantized.FLOAT16_CHECKS if check not in quantized.INT8_CHECKS] == ["weights"]
