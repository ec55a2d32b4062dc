import dataclasses
import re

import numpy as np
import pytest

from bundle.golden import Golden
from export.errors import GateError
from export.gate import gate, quantized
from export.gate.gate import Payoff, Subject
from export.gate.parity import Measured
from export.gate.sandbox import Isolation
from export.gate.selftest import golden_problems
from export.graphs.quantization import quantised

GOOD = Payoff(psnr_drop_db=0.05, rank_correlation=0.9999, class_agreement=0.999, speed_up=1.5)


@pytest.fixture(scope="module")
def variant(subjects: dict[str, Subject], apart: Isolation) -> Subject:
    """The multitask model in eight bits."""
    baseline = subjects["multitask"]
    methods = gate.signatures.methods(baseline.model)
    inputs = {method.name: quantized.calibration(method, baseline.images, None) for method in methods}
    graphs = {name: apart.run(quantised, graph, inputs[name]) for name, graph in baseline.graphs.items()}
    return dataclasses.replace(baseline, graphs=graphs)


def test_loss_and_gain_are_measured(variant: Subject, subjects: dict[str, Subject], apart: Isolation) -> None:
    payoff = quantized.measured_payoff(variant, subjects["multitask"], apart, "cpu")
    assert 0 < abs(payoff.psnr_drop_db) < 1
    assert payoff.rank_correlation is not None
    assert 0.9 < payoff.rank_correlation <= 1
    assert payoff.class_agreement is not None
    assert 0.8 < payoff.class_agreement <= 1
    assert payoff.speed_up > 0


def test_a_model_loses_nothing_against_itself(subjects: dict[str, Subject], apart: Isolation) -> None:
    payoff = quantized.measured_payoff(subjects["denoiser"], subjects["denoiser"], apart, "cpu")
    assert payoff.psnr_drop_db == 0
    assert payoff.rank_correlation is None
    assert payoff.class_agreement is None


def test_the_golden_tolerance_is_what_the_variant_needs(
    variant: Subject, goldens: dict[str, Golden], apart: Isolation
) -> None:
    tolerances = quantized.golden_tolerances(variant.graphs, goldens["multitask"], apart, "cpu")
    assert tolerances.keys() == variant.graphs.keys()
    for name, graph in variant.graphs.items():
        cases = goldens["multitask"].cases[name]
        assert apart.run(golden_problems, graph, cases) != []
        assert apart.run(golden_problems, graph, cases, tolerances[name]) == []
        # That of the decoder also covers the golden sample, which is no case.
        if name != "decode":
            assert apart.run(golden_problems, graph, cases, tolerances[name] / 4) != []


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
    with pytest.raises(GateError, match=re.escape(message)) as refusal:
        quantized.check_payoff(dataclasses.replace(GOOD, **change), "cpu")
    assert refusal.value.check == check


def test_what_pays_passes() -> None:
    quantized.check_payoff(GOOD, "cpu")
    quantized.check_payoff(dataclasses.replace(GOOD, rank_correlation=None, class_agreement=None), "cpu")


def test_rows_that_see_each_other_are_refused() -> None:
    measured = {"encode": Measured((), alone_difference=0.02, alone_excess=np.inf, batches=())}
    quantized.check_invariance(measured, {"encode": 0.03})
    with pytest.raises(GateError, match=r"off by 0\.02"):
        quantized.check_invariance(measured, {"encode": 0.01})
