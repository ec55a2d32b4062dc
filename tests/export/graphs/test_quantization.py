import networks
import numpy as np
import pytest
from onnx import load_model_from_string, numpy_helper

from bundle.graph import check_graph, read_graph
from export.gate import gate, parity, quantized
from export.gate.gate import CheckedGraphs
from export.gate.inputs import answer
from export.gate.parity import outputs
from export.gate.sandbox import Sandbox
from export.gate.structure import checker_problems
from export.gate.weights import weight_problems
from export.graphs import methods, tensor_specs
from export.graphs.quantization import half, quantised, variant_facts, weight_bits


def real(one: CheckedGraphs, name: str) -> dict[str, np.ndarray]:
    method = next(each for each in methods.methods(one.model) if each.name == name)
    return quantized.calibration(method, one.images, None)


def closeness(one: CheckedGraphs, graph: bytes, name: str, sandbox: Sandbox) -> float:
    inputs = real(one, name)
    before = sandbox.run(outputs, one.graphs[name], [inputs])[0]
    after = sandbox.run(outputs, graph, [inputs])[0]
    return max(float(np.max(np.abs(before[output] - after[output]))) for output in before)


@pytest.mark.parametrize(("family", "name"), [("ae", "decode"), ("ae", "encode"), ("multitask", "classify")])
def test_static_quantisation(family: str, name: str, checked: dict[str, CheckedGraphs], sandbox: Sandbox) -> None:
    one = checked[family]
    graph, again = (sandbox.run(quantised, one.graphs[name], real(one, name)) for _ in range(2))
    assert graph == again
    signature = tensor_specs.signature(name, methods.facts(one.model))
    check_graph(graph, signature, imported=False)
    assert sandbox.run(checker_problems, graph) == []
    operators = {operator for _, operator in read_graph(graph).operators}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    assert "DynamicQuantizeLinear" not in operators
    assert 0 < closeness(one, graph, name, sandbox) < 0.1
    assert sandbox.run(parity.row_difference, graph, [real(one, name)]) == (0, 0)


def test_weights_have_as_many_bits_as_the_processor_takes(checked: dict[str, CheckedGraphs], sandbox: Sandbox) -> None:
    graph = sandbox.run(quantised, checked["ae"].graphs["decode"], real(checked["ae"], "decode"))
    initialisers = load_model_from_string(graph).graph.initializer
    weights = next(numpy_helper.to_array(each) for each in initialisers if each.name.endswith("weight_quantized"))
    assert weights.dtype == np.int8
    assert np.abs(weights.astype(int)).max() <= 2 ** (weight_bits() - 1)
    assert variant_facts("int8") == {"precision": "int8", "weight_bits": str(weight_bits())}


def test_half_precision(sandbox: Sandbox) -> None:
    network = networks.weighted(networks.VariationalAutoencoder((8, 8, 1)))
    model, graphs = half(network)
    facts = methods.facts(network)
    assert gate.exact_methods(model)[0][0].precision == gate.exact_methods(network)[0][0].precision
    for name, graph in graphs.items():
        assert weight_problems(graph, model) == []
        assert weight_problems(graph, network) != []
        check_graph(graph, tensor_specs.signature(name, facts), imported=False)
        assert sandbox.run(checker_problems, graph) == []
    images = networks.blobs(9, (8, 8, 1))
    got = sandbox.run(outputs, graphs["reconstruct"], [{"images": images}])[0]
    assert got["reconstructions"].dtype == got["squared_errors"].dtype == np.float32
    method, signature = next(each for each in gate.exact_methods(network) if each[0].name == "reconstruct")
    expected = answer(method, images, signature)
    np.testing.assert_allclose(got["reconstructions"], expected["reconstructions"], atol=5e-3)
