import networks
import numpy as np
import pytest
from onnx import load_model_from_string, numpy_helper

from bundle.graph import read_graph
from export.gate import gate, parity, quantized
from export.gate.gate import Subject
from export.gate.inputs import answer
from export.gate.sandbox import Isolation
from export.gate.selftest import outputs
from export.gate.structure import form_problems
from export.gate.weights import weight_problems
from export.graphs import methods, tensor_specs
from export.graphs.quantization import half, quantised, variant_facts, weight_bits


def real(subject: Subject, name: str) -> dict[str, np.ndarray]:
    method = next(each for each in methods.methods(subject.model) if each.name == name)
    return quantized.calibration(method, subject.images, None)


def closeness(subject: Subject, graph: bytes, name: str, apart: Isolation) -> float:
    inputs = real(subject, name)
    before = apart.run(outputs, subject.graphs[name], [inputs])[0]
    after = apart.run(outputs, graph, [inputs])[0]
    return max(float(np.max(np.abs(before[output] - after[output]))) for output in before)


@pytest.mark.parametrize(("family", "name"), [("ae", "decode"), ("ae", "encode"), ("multitask", "classify")])
def test_static_quantisation(family: str, name: str, subjects: dict[str, Subject], apart: Isolation) -> None:
    subject = subjects[family]
    graph, again = (apart.run(quantised, subject.graphs[name], real(subject, name)) for _ in range(2))
    assert graph == again
    signature = tensor_specs.signature(name, methods.facts(subject.model))
    assert apart.run(form_problems, graph, signature) == []
    operators = {operator for _, operator in read_graph(graph).operators}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    assert "DynamicQuantizeLinear" not in operators
    assert 0 < closeness(subject, graph, name, apart) < 0.1
    trial = parity.Trial("held-out images", real(subject, name), {})
    assert apart.run(parity.measure, graph, [trial]).alone_difference == 0


def test_weights_have_as_many_bits_as_the_processor_takes(subjects: dict[str, Subject], apart: Isolation) -> None:
    graph = apart.run(quantised, subjects["ae"].graphs["decode"], real(subjects["ae"], "decode"))
    initialisers = load_model_from_string(graph).graph.initializer
    weights = next(numpy_helper.to_array(each) for each in initialisers if each.name.endswith("weight_quantized"))
    assert weights.dtype == np.int8
    assert np.abs(weights.astype(int)).max() <= 2 ** (weight_bits() - 1)
    assert variant_facts("int8") == {"precision": "int8", "weight_bits": str(weight_bits())}


def test_half_precision(apart: Isolation) -> None:
    network = networks.weighted(networks.VariationalAutoencoder((8, 8, 1)))
    model, graphs = half(network)
    about = methods.facts(network)
    assert gate.exact_methods(model)[0][0].precision == gate.exact_methods(network)[0][0].precision
    for name, graph in graphs.items():
        assert weight_problems(graph, model) == []
        assert weight_problems(graph, network) != []
        assert apart.run(form_problems, graph, tensor_specs.signature(name, about)) == []
    images = networks.blobs(9, (8, 8, 1))
    got = apart.run(outputs, graphs["reconstruct"], [{"images": images}])[0]
    assert got["reconstructions"].dtype == got["squared_errors"].dtype == np.float32
    wanted = next(each for each in gate.exact_methods(network) if each[0].name == "reconstruct")
    expected = answer(wanted[0], images, wanted[1])
    np.testing.assert_allclose(got["reconstructions"], expected["reconstructions"], atol=5e-3)
