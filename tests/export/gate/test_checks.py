"""Checks over plain data, and a bundle of one graph in the sandbox."""

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from autoencoder.v1.model_pb2 import DATA_TYPE_FLOAT32, Signature, TensorSpec

from bundle.golden import Case, Golden
from export.errors import GateError
from export.gate import checks
from export.gate.checks import BATCH_INVARIANCE, GOLDEN_VECTORS, STRUCTURE, Check, CheckedBundle, Finding
from export.gate.sandbox import Sandbox

ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)


def positive(numbers: list[int]) -> Iterator[Finding]:
    for number in numbers:
        yield Finding(f"number {number}", "too small", passed=number > 0, where="here")


POSITIVE = Check("positive", positive)


def doubling(sandbox: Sandbox, operator: str = "Add", **claims: bool) -> CheckedBundle:
    graph = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20]> g (float[batch, 2] latents) => (float[batch, 2] images)'
        f"{{ images = {operator}(latents, latents) }}"
    ).SerializeToString()
    spec = [TensorSpec(name=name, data_type=DATA_TYPE_FLOAT32, shape=[-1, 2]) for name in ("latents", "images")]
    signature = Signature(name="decode", inputs=spec[:1], outputs=spec[1:], batch_buckets=[1, 4], **claims)
    golden = Golden({"decode": (Case({"latents": ROWS}, {"images": ROWS * 2}),)})
    return CheckedBundle(signatures=[signature], graphs={"decode": graph}, golden=golden, sandbox=sandbox)


def test_those_that_ran_are_named_once() -> None:
    assert checks.run((POSITIVE, POSITIVE, Check("other", positive)), [1, 2]) == ("positive", "other")
    assert [str(each) for each in POSITIVE.findings([1])] == ["here: too small"]


def test_the_first_that_refuses_is_the_last_that_runs() -> None:
    def never(_: list[int]) -> Iterator[Finding]:
        raise AssertionError

    with pytest.raises(GateError, match="number -1: here: too small") as refusal:
        checks.run((POSITIVE, Check("never", never)), [1, -1])
    assert refusal.value.check == "positive"
    assert [failure.signature for failure in refusal.value.failures] == ["number -1"]


def test_a_sound_graph_passes_and_says_what_was_seen(sandbox: Sandbox) -> None:
    bundle = doubling(sandbox, batch_invariant=True)
    seen = [str(*check.findings(bundle)) for check in (STRUCTURE, GOLDEN_VECTORS, BATCH_INVARIANCE)]
    assert seen == [
        "opset 20, 1 nodes",
        "1 cases agree",
        "a row alone against the same row in a batch: the same bits",
    ]


@pytest.mark.parametrize(("operator", "check"), [("MatMulInteger", STRUCTURE), ("Mul", GOLDEN_VECTORS)])
def test_an_unsound_graph_is_refused(operator: str, check: Check[CheckedBundle], sandbox: Sandbox) -> None:
    with pytest.raises(GateError) as refusal:
        checks.run((check,), doubling(sandbox, operator))
    assert refusal.value.check == check.name
