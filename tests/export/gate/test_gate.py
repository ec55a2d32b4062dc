"""Mutation tests of the gate: each defect must be refused by the check meant for it."""

import dataclasses
import os
from collections.abc import Callable

import free_networks
import mutations
import networks
import numpy as np
import onnx
import pytest
from autoencoder.v1.model_pb2 import Signature
from onnx import ModelProto
from torch import Tensor, nn
from torch.nn import functional

from bundle.golden import Case, Golden
from export.errors import GateError
from export.gate import checks, gate, parity
from export.gate.checks import BATCH_INVARIANCE, CheckedBundle
from export.gate.gate import CheckedGraphs
from export.gate.golden import golden_vectors
from export.gate.sandbox import CrashError, Sandbox
from export.graphs import build, methods, tensor_specs

FAMILIES = ("ae", "multitask", "denoiser")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_faithful_export_passes(
    family: str, checked: dict[str, CheckedGraphs], goldens: dict[str, Golden], sandbox: Sandbox
) -> None:
    result = gate.run_checks(checked[family], goldens[family], sandbox)
    assert result.measured.keys() == result.latencies_ms.keys() == checked[family].graphs.keys()
    for measured in result.measured.values():
        assert measured.max_abs_error < 5e-6
        assert measured.alone_difference == 0
        assert set(measured.batches) >= {1, 2, 3, 7, 8, 17, 256}
    assert result.quality.relative_difference < 1e-6
    assert result.passed == ("structure", "weights", "numbers", "batch invariance", "quality", "golden vectors")
    assert all(latency > 0 for each in result.latencies_ms.values() for latency in each.values())


def test_a_detector_passes(checked: dict[str, CheckedGraphs], goldens: dict[str, Golden], sandbox: Sandbox) -> None:
    result = gate.run_checks(checked["detector"], goldens["detector"], sandbox)
    assert {worst.output for worst in result.measured["detect"].worst} == {"scores", "maps"}
    assert result.measured["detect"].max_abs_error < 1e-6
    assert result.measured["detect"].alone_difference == 0
    assert result.quality is None
    for case in goldens["detector"].cases["detect"]:
        np.testing.assert_array_equal(case.outputs["scores"], case.outputs["maps"].max((1, 2, 3)))


@pytest.mark.slow
def test_a_detector_of_free_sizes_passes_and_is_tiled(sandbox: Sandbox) -> None:
    model = networks.weighted(networks.Detector((0, 0, 1)))
    one = CheckedGraphs(model, {"detect": make_graph(model, "detect")}, networks.blobs(20, (24, 21, 1)))
    assert [spec.name for spec in one.signatures[0].outputs] == ["maps"]
    result = gate.run_checks(one, golden_vectors(gate.exact_methods(one.model), one.images, None), sandbox)
    tiling = result.tiled["detect"].tiling
    assert tiling is not None
    # Two convolutions and the smoothing see three pixels.
    assert (tiling.halo, tiling.multiple, tiling.exact) == (3, 1, True)


def test_a_network_of_free_sizes_passes(free: CheckedGraphs, sandbox: Sandbox) -> None:
    expected = golden_vectors(gate.exact_methods(free.model), free.images, None)
    first, second = expected.cases["denoise"]
    assert {name: array.shape for name, array in first.inputs.items()} == {
        "images": (4, 32, 32, 1),
        "noise_levels": (4,),
    }
    assert second.inputs["images"].shape == (4, 24, 40, 1)
    assert first.inputs["images"].max() > 1  # noise is not clipped
    result = gate.run_checks(free, expected, sandbox)
    assert result.passed[-1] == "tiles"
    seen = {worst.kind for worst in result.measured["denoise"].worst}
    assert {"held-out images of 2 x 2", "noisy images of 38 x 54", "beyond 0 … 1 of 256 x 320"} <= seen
    tiling = result.tiled["denoise"].tiling
    assert tiling is not None
    assert (tiling.halo, tiling.multiple, tiling.tile, tiling.exact) == (10, 2, 256, True)
    assert list(result.latencies_ms["denoise"]) == [1, 2, 4]
    assert result.quality is not None
    assert result.quality.relative_difference < 1e-6


def test_a_height_that_is_fixed_is_refused(free: CheckedGraphs, sandbox: Sandbox) -> None:
    def fix(model: ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 32

    with pytest.raises(GateError, match="images: expected") as refusal:
        gate.run_checks(mutated(free, "denoise", fix), Golden({}), sandbox)
    assert refusal.value.check == "structure"


@pytest.mark.slow
def test_height_for_width_is_refused(free: CheckedGraphs, sandbox: Sandbox) -> None:
    with pytest.raises(GateError) as refusal:
        gate.run_checks(mutated(free, "denoise", mutations.exchange_height_and_width), Golden({}), sandbox)
    assert refusal.value.check in {"structure", "numbers"}


@pytest.mark.slow
def test_a_multiple_that_is_too_small_is_refused() -> None:
    class Odd(free_networks.FreeUNet):
        multiple = 1

    with pytest.raises(GateError, match="any height and width") as refusal:
        make_graph(networks.weighted(Odd()), "denoise")
    assert refusal.value.check == "structure"


@pytest.mark.slow
def test_sizes_that_a_network_cannot_take_are_refused(sandbox: Sandbox) -> None:
    class Mirrored(free_networks.FreeAutoencoder):
        minimum = 1

        def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return super().encode(functional.pad(images, (6, 6, 6, 6), mode="reflect")[:, :, 6:-6, 6:-6])

    model = networks.weighted(Mirrored())
    checked = CheckedGraphs(model, {"encode": make_graph(model, "encode")}, networks.blobs(4, (24, 24, 3)))
    with pytest.raises(GateError, match="`minimum`") as refusal:
        gate.run_checks(checked, Golden({}), sandbox)
    assert refusal.value.check == "numbers"


def mutated(one: CheckedGraphs, signature: str, change: Callable[[ModelProto], None]) -> CheckedGraphs:
    model = onnx.load_model_from_string(one.graphs[signature])
    change(model)
    return dataclasses.replace(one, graphs={**one.graphs, signature: model.SerializeToString()})


@pytest.mark.parametrize("mutation", mutations.MUTATIONS)
def test_a_mutated_graph_is_refused(
    mutation: str, checked: dict[str, CheckedGraphs], goldens: dict[str, Golden], sandbox: Sandbox
) -> None:
    family, signature, change, check = mutations.MUTATIONS[mutation]
    with pytest.raises(GateError) as refusal:
        gate.run_checks(mutated(checked[family], signature, change), goldens[family], sandbox)
    assert refusal.value.check == check
    assert {failure.signature for failure in refusal.value.failures} == {signature}


def test_a_refusal_says_which_graph_which_input_and_how_far(
    checked: dict[str, CheckedGraphs], goldens: dict[str, Golden], sandbox: Sandbox
) -> None:
    with pytest.raises(GateError) as refusal:
        gate.run_checks(mutated(checked["ae"], "decode", mutations.shift_output(1e-3)), goldens["ae"], sandbox)
    text = str(refusal.value)
    assert "decode: N(0, 3), batch of" in text
    assert "output images" in text
    assert "off by 0.001" in text


def test_bytes_that_are_not_a_graph_are_refused(
    checked: dict[str, CheckedGraphs], goldens: dict[str, Golden], sandbox: Sandbox
) -> None:
    broken = dataclasses.replace(checked["ae"], graphs={**checked["ae"].graphs, "decode": b"\xff" * 100})
    with pytest.raises(GateError, match=r"decode\.onnx: expected an ONNX file") as refusal:
        gate.run_checks(broken, goldens["ae"], sandbox)
    assert refusal.value.check == "structure"


def test_other_golden_vectors_are_refused(
    checked: dict[str, CheckedGraphs], goldens: dict[str, Golden], sandbox: Sandbox
) -> None:
    cases = dict(goldens["ae"].cases)
    outputs = {name: array + np.float32(1e-3) for name, array in cases["decode"][0].outputs.items()}
    cases["decode"] = (Case(cases["decode"][0].inputs, outputs),)
    with pytest.raises(GateError, match="case 0, output images") as refusal:
        gate.run_checks(checked["ae"], Golden(cases), sandbox)
    assert refusal.value.check == "golden vectors"


def test_another_golden_sample_is_refused(
    checked: dict[str, CheckedGraphs], goldens: dict[str, Golden], sandbox: Sandbox
) -> None:
    drawn = goldens["multitask"].sample_case
    assert drawn is not None
    other = dataclasses.replace(drawn, images=drawn.images + np.float32(1e-3))
    golden = dataclasses.replace(goldens["multitask"], sample_case=other)
    with pytest.raises(GateError, match="decode: case 2, output images") as refusal:
        gate.run_checks(checked["multitask"], golden, sandbox)
    assert refusal.value.check == "golden vectors"


def make_graph(network: networks.Network, name: str = "encode") -> bytes:
    model = build.folded(network)
    method = next(each for each in methods.methods(model) if each.name == name)
    return build.build(method, tensor_specs.signature(name, methods.facts(model)))


def test_a_module_left_in_training_mode_is_refused() -> None:
    network = networks.weighted(networks.Autoencoder((8, 8, 1)))
    network.encoder.append(nn.Dropout().train())
    with pytest.raises(GateError, match="training mode") as refusal:
        make_graph(network)
    assert refusal.value.check == "structure"


def test_a_module_that_fixes_its_batch_is_refused() -> None:
    class Fixed(networks.Autoencoder):
        def encode(self, images: Tensor) -> Tensor:
            return super().encode(images).reshape(2, self.latent_size)

    with pytest.raises(GateError, match="any batch") as refusal:
        make_graph(networks.weighted(Fixed((8, 8, 1))))
    assert refusal.value.check == "structure"


def test_rows_that_see_each_other_are_refused(sandbox: Sandbox) -> None:
    graph = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[batch, 3] x) => (float[batch, 3] y)'
        "<int64[1] axis = {0}> { m = ReduceMean<keepdims = 1>(x, axis) y = Sub(x, m) }"
    ).SerializeToString()
    rows = np.random.default_rng(0).normal(size=(17, 3)).astype(np.float32)
    expected = {"y": rows - rows.mean(axis=0)}
    measured = sandbox.run(parity.measure, graph, [parity.TestInput("noise", {"x": rows}, expected)])
    assert measured.alone_difference > 0.1
    bundle = CheckedBundle(
        signatures=[Signature(name="encode", batch_buckets=[1, 17])],
        graphs={"encode": graph},
        golden=Golden({"encode": (Case({"x": rows}, expected),)}),
        sandbox=sandbox,
    )
    with pytest.raises(GateError, match="a row alone") as refusal:
        checks.run((BATCH_INVARIANCE,), bundle)
    assert refusal.value.check == "batch invariance"


def test_a_crash_of_the_runtime_is_a_refusal() -> None:
    with Sandbox() as own, pytest.raises(CrashError, match="abort"):
        own.run(os.abort)
    with pytest.raises(GateError, match="died") as refusal, checks.crash_refused("numbers", "encode"):
        raise CrashError("the process that ran measure died")
    assert refusal.value.check == "numbers"
