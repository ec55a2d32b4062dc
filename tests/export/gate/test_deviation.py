"""The first deviating value: one weight is changed in a graph, and the node that uses it is named."""

import dataclasses

import networks
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

from export.errors import GateError
from export.gate import deviation, gate
from export.gate.checks import run
from export.gate.gate import NUMBERS, CheckedGraphs, GateRun
from export.gate.golden import Golden
from export.gate.sandbox import Sandbox


def planted(graph: bytes, weight: str) -> tuple[bytes, str]:
    """The graph with one number of a weight changed, and the node that uses it."""
    model = onnx.load_model_from_string(graph)
    tensor = next(each for each in model.graph.initializer if each.name.endswith(weight))
    changed = numpy_helper.to_array(tensor).copy()
    changed.flat[0] += np.float32(0.5)
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    return model.SerializeToString(), next(node.name for node in model.graph.node if tensor.name in node.input)


@pytest.mark.parametrize(
    ("family", "signature", "weight", "module"),
    [
        ("denoiser", "denoise", "network.7.weight", "network.7"),
        pytest.param("multitask", "reconstruct", "encoder.3.weight", "encoder.3", marks=pytest.mark.slow),
    ],
)
def test_the_node_of_a_changed_weight_is_named(
    family: str, signature: str, weight: str, module: str, checked: dict[str, CheckedGraphs], sandbox: Sandbox
) -> None:
    one = checked[family]
    graph, node = planted(one.graphs[signature], weight)
    changed = dataclasses.replace(one, graphs={**one.graphs, signature: graph})
    gate_run = GateRun(
        signatures=changed.signatures,
        graphs=changed.graphs,
        golden=Golden({}),
        sandbox=sandbox,
        network=one.model,
        model=one.model,
        images=one.images[:8],
    )
    with pytest.raises(GateError) as refusal:
        run((NUMBERS,), gate_run)
    assert f"{signature}: the first value that deviates is" in str(refusal.value)
    assert f"of node {node} (" in str(refusal.value)
    assert f"in module {module}: off by" in str(refusal.value)


def test_values_of_the_trace_are_those_of_the_network(checked: dict[str, CheckedGraphs]) -> None:
    method, signature = next(each for each in gate.exact_methods(checked["ae"].model) if each[0].name == "encode")
    images = networks.blobs(2, (8, 8, 1))
    found = deviation.references(method, signature, {"images": images})
    with torch.no_grad():
        expected: Tensor = method(torch.tensor(images))[0]
    assert np.array_equal(found["latents"].value, expected.numpy())
    assert found["linear"].module == "encoder.1"
    assert found["linear"].value.dtype == np.float64
