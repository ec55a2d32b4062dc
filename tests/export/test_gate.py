"""The gate is tested by mutation: each defect must be refused, by the check meant for it."""

import dataclasses
import os
from collections.abc import Callable

import networks
import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from bundle.golden import Case, Golden
from export import gate, graphs, interface, parity, signatures
from export.errors import GateError
from export.gate import Subject
from export.isolation import CrashError, Isolation

FAMILIES = ("ae", "multitask", "denoiser")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_faithful_export_passes(
    family: str, subjects: dict[str, Subject], goldens: dict[str, Golden], apart: Isolation
) -> None:
    verdict = gate.judge(subjects[family], goldens[family], apart)
    assert verdict.measured.keys() == verdict.latencies_ms.keys() == subjects[family].graphs.keys()
    for measured in verdict.measured.values():
        assert measured.max_abs_error < 5e-6
        assert measured.alone_difference == 0
        assert set(measured.batches) >= {1, 2, 3, 7, 8, 17, 256}
    assert verdict.quality.relative_difference < 1e-6
    assert all(latency > 0 for each in verdict.latencies_ms.values() for latency in each.values())


def mutated(subject: Subject, signature: str, change: Callable[[ModelProto], None]) -> Subject:
    model = onnx.load_model_from_string(subject.graphs[signature])
    change(model)
    return dataclasses.replace(subject, graphs={**subject.graphs, signature: model.SerializeToString()})


def set_initialiser(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[ModelProto], None]:
    def apply(model: ModelProto) -> None:
        tensor = next(each for each in model.graph.initializer if name in each.name)
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), tensor.name))

    return apply


def disturb_dead_unit(weights: np.ndarray) -> np.ndarray:
    weights[0, 0] += np.float32(0.01)
    return weights


def swap_outputs(model: ModelProto) -> None:
    first, second = (each.name for each in model.graph.output)
    swap = {first: second, second: first}
    for node in model.graph.node:
        renamed = [swap.get(name, name) for name in node.output]
        read = [swap.get(name, name) for name in node.input]
        del node.output[:], node.input[:]
        node.output.extend(renamed)
        node.input.extend(read)


def hide_weights(model: ModelProto) -> None:
    """Other weights in a constant among the nodes, under the output of which nothing shows."""
    tensor = next(each for each in model.graph.initializer if "decoder.weight" in each.name)
    other = numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(1e-7), tensor.name)
    model.graph.initializer.remove(tensor)
    model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=other))


def fix_batch(model: ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2


def rename_batch(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"


def insert(node_type: str, domain: str = "", **attributes: float) -> Callable[[ModelProto], None]:
    """A node of a type between the last node and the first output."""

    def apply(model: ModelProto) -> None:
        output = model.graph.output[0].name
        last = next(node for node in model.graph.node if output in node.output)
        last.output[list(last.output).index(output)] = "inserted"
        model.graph.node.append(helper.make_node(node_type, ["inserted"], [output], domain=domain, **attributes))

    return apply


def shift_output(amount: float) -> Callable[[ModelProto], None]:
    def apply(model: ModelProto) -> None:
        insert("Add")(model)
        model.graph.node[-1].input.append("amount")
        model.graph.initializer.append(numpy_helper.from_array(np.float32(amount), "amount"))

    return apply


def add_noise(model: ModelProto) -> None:
    insert("Add")(model)
    model.graph.node[-1].input.append("noise")
    model.graph.node.insert(-1, helper.make_node("RandomNormalLike", ["inserted"], ["noise"], scale=1e-9))


def add_loop(model: ModelProto) -> None:
    insert("If")(model)
    model.graph.node[-1].attribute.append(helper.make_attribute("then_branch", helper.make_graph([], "g", [], [])))


def set_opset(version: int) -> Callable[[ModelProto], None]:
    def apply(model: ModelProto) -> None:
        model.opset_import[0].version = version

    return apply


def move_weights_out(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def break_shapes(model: ModelProto) -> None:
    tensor = next(each for each in model.graph.initializer if len(each.dims) == 2)
    tensor.dims[:] = [tensor.dims[0] * tensor.dims[1], 1]


MUTATIONS = {
    "weight behind a dead ReLU": (
        "ae",
        "reconstruct",
        set_initialiser("encoder.1.weight", disturb_dead_unit),
        "weights",
    ),
    "weight of a folded batch norm": (
        "denoiser",
        "denoise",
        set_initialiser("network.0.weight", lambda w: w * 1.001),
        "weights",
    ),
    "tensor of nobody's": (
        "ae",
        "decode",
        lambda model: model.graph.initializer.append(numpy_helper.from_array(np.ones(100, np.float32), "stranger")),
        "weights",
    ),
    "weights in a constant": ("ae", "decode", hide_weights, "weights"),
    "swapped outputs": ("multitask", "encode", swap_outputs, "numbers"),
    "wrong scale": ("ae", "encode", set_initialiser("scalar_tensor", lambda _: np.float32(256)), "numbers"),
    "shifted images": ("ae", "decode", shift_output(1e-3), "numbers"),
    "images shifted within the tolerance": ("ae", "reconstruct", shift_output(9e-6), "quality"),
    "fixed batch": ("ae", "decode", fix_batch, "structure"),
    "batch of another name": ("ae", "decode", rename_batch, "structure"),
    "dropout": ("ae", "decode", insert("Dropout"), "structure"),
    "random operator": ("multitask", "decode", add_noise, "structure"),
    "control flow": ("multitask", "decode", add_loop, "structure"),
    "foreign domain": ("multitask", "decode", insert("Gelu", "com.microsoft"), "structure"),
    "another opset": ("ae", "encode", set_opset(18), "structure"),
    "external data": ("ae", "encode", move_weights_out, "structure"),
    "contradictory shapes": ("ae", "decode", break_shapes, "structure"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_graph_is_refused(
    mutation: str, subjects: dict[str, Subject], goldens: dict[str, Golden], apart: Isolation
) -> None:
    family, signature, change, check = MUTATIONS[mutation]
    with pytest.raises(GateError) as refusal:
        gate.judge(mutated(subjects[family], signature, change), goldens[family], apart)
    assert refusal.value.check == check
    assert {failure.signature for failure in refusal.value.failures} == {signature}


def test_a_refusal_says_which_graph_which_input_and_how_far(
    subjects: dict[str, Subject], goldens: dict[str, Golden], apart: Isolation
) -> None:
    with pytest.raises(GateError) as refusal:
        gate.judge(mutated(subjects["ae"], "decode", shift_output(1e-3)), goldens["ae"], apart)
    text = str(refusal.value)
    assert "decode: N(0, 3), batch of" in text
    assert "output images" in text
    assert "off by 0.001" in text


def test_bytes_that_are_no_graph_are_refused(
    subjects: dict[str, Subject], goldens: dict[str, Golden], apart: Isolation
) -> None:
    broken = dataclasses.replace(subjects["ae"], graphs={**subjects["ae"].graphs, "decode": b"\xff" * 100})
    with pytest.raises(GateError, match="decode: wanted an ONNX file") as refusal:
        gate.judge(broken, goldens["ae"], apart)
    assert refusal.value.check == "structure"


def test_other_golden_vectors_are_refused(
    subjects: dict[str, Subject], goldens: dict[str, Golden], apart: Isolation
) -> None:
    cases = dict(goldens["ae"].cases)
    outputs = {name: array + np.float32(1e-3) for name, array in cases["decode"][0].outputs.items()}
    cases["decode"] = (Case(cases["decode"][0].inputs, outputs),)
    with pytest.raises(GateError, match="case 0, output images") as refusal:
        gate.judge(subjects["ae"], Golden(cases), apart)
    assert refusal.value.check == "golden vectors"


def build_encoder(network: networks.Network) -> bytes:
    model = graphs.folded(network)
    method = next(each for each in signatures.methods(model) if each.name == "encode")
    return graphs.build(method, interface.signature("encode", signatures.facts(model)))


def test_a_module_left_in_training_mode_is_refused() -> None:
    network = networks.weighted(networks.Autoencoder((8, 8, 1)))
    network.encoder.append(nn.Dropout().train())
    with pytest.raises(GateError, match="training mode") as refusal:
        build_encoder(network)
    assert refusal.value.check == "structure"


def test_a_module_that_fixes_its_batch_is_refused() -> None:
    class Fixed(networks.Autoencoder):
        def encode(self, images: Tensor) -> Tensor:
            return super().encode(images).reshape(2, self.latent_size)

    with pytest.raises(GateError, match="any batch") as refusal:
        build_encoder(networks.weighted(Fixed((8, 8, 1))))
    assert refusal.value.check == "structure"


def test_rows_that_see_each_other_are_refused(apart: Isolation) -> None:
    graph = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[batch, 3] x) => (float[batch, 3] y)'
        "<int64[1] axis = {0}> { m = ReduceMean<keepdims = 1>(x, axis) y = Sub(x, m) }"
    ).SerializeToString()
    rows = np.random.default_rng(0).normal(size=(17, 3)).astype(np.float32)
    trial = parity.Trial("noise", {"x": rows}, {"y": rows - rows.mean(axis=0)})
    measured = apart.run(parity.measure, graph, [trial])
    assert measured.alone_difference > 0.1
    with pytest.raises(GateError, match="a row alone") as refusal:
        gate.check_invariance({"encode": measured})
    assert refusal.value.check == "batch invariance"


def test_a_crash_of_the_runtime_is_a_refusal() -> None:
    with Isolation() as own, pytest.raises(CrashError, match="abort"):
        own.run(os.abort)
    with pytest.raises(GateError, match="died") as refusal, gate.crash_refused("numbers", "encode"):
        raise CrashError("the process that ran measure died")
    assert refusal.value.check == "numbers"
