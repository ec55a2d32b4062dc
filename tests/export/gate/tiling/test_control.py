"""The negative control on graphs written node by node."""

import dataclasses

import numpy as np
import onnx
import pytest
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT8
from onnx import TensorProto, numpy_helper
from small_graphs import IMAGES, node, served, weights

from bundle.replay import tile_difference
from export.gate.session import open_session
from export.gate.tiling.control import plain, problem, smallest
from export.gate.tiling.halo import derive

CONV = node("Conv", "-", "w", "bias", pads=[1] * 4)
DEAD = np.zeros((2, 2, 3, 3), np.float32)
BIAS = np.full(2, -5, np.float32)


@pytest.fixture(scope="module")
def dead() -> bytes:
    """Two convolutions whose units are dead: nothing of an image shows in what they give."""
    nodes = [CONV, node("Relu", "-"), CONV, node("Clip", "-", "zero", "one")]
    return served(nodes, {"w": DEAD, "bias": BIAS, "zero": np.float32(0), "one": np.float32(1)})


def test_plain_weights_show_what_dead_units_hide(dead: bytes) -> None:
    halo = derive(dead, IMAGES, 1)
    assert halo.halo == 2
    image = np.random.default_rng(0).uniform(size=(1, 24, 24, 2)).astype(np.float32)
    too_small = smallest(1, 1)
    assert tile_difference(open_session(dead).run_rows, [image], too_small, 1).largest == 0
    assert tile_difference(open_session(plain(dead)).run_rows, [image], too_small, 1).largest > 0.1
    assert problem(dead, IMAGES, halo) == ""


def test_a_halo_that_nothing_needs_is_inconclusive(dead: bytes) -> None:
    wide = dataclasses.replace(derive(dead, IMAGES, 1), halo=3, reach=((3, 3), (3, 3)))
    assert "no difference with a halo of 2 in place of 3" in problem(dead, IMAGES, wide)


def test_plain_weights_are_one_over_the_channels(dead: bytes) -> None:
    model = onnx.load_model_from_string(plain(dead))
    values = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    np.testing.assert_array_equal(values["w/Conv"], np.full_like(DEAD, 0.5))
    np.testing.assert_array_equal(values["bias/Conv"], np.zeros_like(BIAS))
    assert {name for each in model.graph.node if each.op_type == "Conv" for name in each.input[1:]} == {
        "w/Conv",
        "bias/Conv",
    }
    assert [each.op_type for each in model.graph.node] == ["Transpose", "Conv", "Relu", "Conv", "Identity", "Transpose"]


def test_images_less_their_mean_are_not_below_what_units_answer_to() -> None:
    nodes = [node("Sub", "-", "grey"), *[CONV, node("Relu", "-")] * 3, CONV]
    graph = served(nodes, {"w": weights(2, 2, 3), "bias": BIAS, "grey": np.float32(0.5)})
    assert problem(graph, IMAGES, derive(graph, IMAGES, 1)) == ""


def test_a_mean_and_a_divisor_may_be_one_constant() -> None:
    scaling = [node("Sub", "-", "half"), node("Div", "-", "half")]
    graph = served([*scaling, CONV, node("Relu", "-"), CONV], {"w": DEAD, "bias": BIAS, "half": np.float32(0.5)})
    assert problem(graph, IMAGES, derive(graph, IMAGES, 1)) == ""


def test_deep_stacks_stay_finite() -> None:
    graph = served([node("Conv", "-", "w", pads=[2] * 4)] * 30, {"w": weights(2, 2, 5)})
    halo = derive(graph, IMAGES, 1)
    assert halo.halo == 60
    assert problem(graph, IMAGES, halo) == ""


def test_images_of_bytes_have_impulses_of_both_signs() -> None:
    nodes = [node("Cast", "-", to=TensorProto.FLOAT), node("Div", "-", "most"), CONV, CONV]
    constants = {"w": weights(2, 2, 3), "bias": BIAS, "most": np.float32(255)}
    model = onnx.load_model_from_string(served(nodes, constants))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    about = type(IMAGES)()
    about.CopyFrom(IMAGES)
    about.inputs[0].data_type = DATA_TYPE_UINT8
    graph = model.SerializeToString()
    halo = derive(graph, about, 1)
    assert problem(graph, about, halo) == ""
    assert problem(graph, about, dataclasses.replace(halo, halo=3, reach=((3, 3), (3, 3))))
