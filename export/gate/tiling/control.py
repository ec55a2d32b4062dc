"""Negative control of a halo: with one that is too small, tiles must differ from the whole, or the proof shows nothing.

Trained weights hide how far a graph sees, as dead units do. So the control runs the same graph with every weight one
over the input channels of its operator and without biases, on single impulses where the smaller halo ends, and compares
before a final clip.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT8, Signature, Tiling
from autoencoder.v1.shapes import Size
from onnx import ModelProto, NodeProto, numpy_helper

from bundle import replay
from bundle.golden import Array
from bundle.replay import Run, tile_difference
from export.gate.session import open_session
from export.gate.tiling.axes import HEIGHT
from export.gate.tiling.halo import Halo

# Axis of an operator's weights along which its input channels lie.
_CHANNELS_AXIS = {"Conv": 1, "ConvTranspose": 0, "Gemm": 0, "MatMul": -2}
# Scale, bias, mean, variance.
_PLAIN_NORM = (1.0, 0.0, 0.0, 1.0)
_ENDS = {"Clip", "Sigmoid"}
_MOVES = {"Cast", "Identity", "Reshape", "Transpose"}
# Each layer multiplies by its kernel's size: of deep networks only small impulses stay finite.
_AMPLITUDES = (1.0, 2.0**-60, 2.0**-120)
# Multiples across the images, along which nothing is cut.
_NARROW = 4
# A difference counts if it is this many times what the right halo leaves.
_CLEARLY = 100
# With plain weights all codes are alike, and nothing changes what is chosen: these graphs keep their own, on noise.
_CHOOSES = {"ArgMax", "ArgMin"}
_NOISES = 8


def problem(graph: bytes, signature: Signature, halo: Halo, least: int = 1) -> str:
    """Why the control shows nothing; empty where a smaller halo fails, as it must. Sides have at least `least` cells.

    Raises:
        BundleError: the runtime refuses the graph with other weights.
    """
    others = [np.zeros(1, np.float32) for _ in signature.inputs[1:]]
    small, right = (smallest(halo.halo - less, halo.multiple) for less in (halo.multiple, 0))
    side = small.tile + right.tile
    if any(node.op_type in _CHOOSES for node in onnx.load_model_from_string(graph).graph.node):
        run = open_session(graph).run_rows
        noises = (replay.noise(signature, (2 * side, 2 * side), seed=seed) for seed in range(_NOISES))
        shown = any(_shows(run, [noise, *others], small, right) for noise in noises)
        return "" if shown else f"inconclusive: noise shows no difference with a halo of {small.halo}"
    run = open_session(plain(graph)).run_rows
    seen = "values that are not finite"
    for amplitude in _AMPLITUDES:
        images = list(_impulses(signature, halo, (side, max(least, _NARROW * halo.multiple)), amplitude))
        if not all(_is_finite(run, [image, *others]) for image in images):
            continue
        if any(_shows(run, [image, *others], small, right) for image in images):
            return ""
        seen = f"no difference with a halo of {small.halo} in place of {halo.halo}"
        break
    return f"inconclusive: plain weights show {seen}"


def _shows(run: Run, inputs: Sequence[Array], small: Tiling, right: Tiling) -> bool:
    """Whether the smaller halo differs from the whole clearly more than the right one."""
    failing, left = (tile_difference(run, inputs, cut, 1).largest for cut in (small, right))
    return failing > _CLEARLY * left


def smallest(halo: int, multiple: int) -> Tiling:
    """The smallest tiles with this halo that show every seam."""
    return Tiling(halo=halo, multiple=multiple, tile=2 * halo + 2 * multiple)


def plain(graph: bytes) -> bytes:
    """The same graph with plain weights, without biases and a final clip or sigmoid.

    Norms over channels alone become the identity: they see no further, and make nothing of channels that are alike.
    """
    model = onnx.load_model_from_string(graph)
    makers = {name: node for node in model.graph.node for name in node.output}
    values = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    made: dict[str, Array] = {}
    for node, place, value in list(_plain_weights(model, values)):
        # Under a name of its own: the exporter gives equal constants, such as a mean and a divisor of 0.5, one name.
        name = f"{node.input[place]}/{node.op_type}"
        made[name] = value.astype(values[node.input[place]].dtype)
        node.input[place] = name
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in made.items())
    for node in model.graph.node:
        if node.op_type == "LayerNormalization":
            _pass_through(node)
    for output in model.graph.output:
        node = makers[output.name]
        while node.op_type in _MOVES and node.input[0] in makers:
            node = makers[node.input[0]]
        if node.op_type in _ENDS:
            _pass_through(node)
    return model.SerializeToString()


def _plain_weights(model: ModelProto, values: dict[str, Array]) -> Iterator[tuple[NodeProto, int, Array]]:
    """Weights and biases, as inputs of their nodes, and what they become."""
    for node in model.graph.node:
        constants = [(place, name) for place, name in enumerate(node.input) if name in values]
        for place, name in constants:
            if node.op_type == "BatchNormalization":
                yield node, place, np.full_like(values[name], _PLAIN_NORM[place - 1])
            elif node.op_type in _CHANNELS_AXIS:
                channels = values[name].shape[_CHANNELS_AXIS[node.op_type]] if place == 1 else 0
                yield node, place, np.full(values[name].shape, 1 / channels if channels else 0.0)
            elif node.op_type in {"Add", "Sub"} and values[name].dtype.kind == "f":
                yield node, place, np.zeros_like(values[name])


def _pass_through(node: NodeProto) -> None:
    del node.input[1:]
    del node.attribute[:]
    node.op_type = "Identity"


def _impulses(signature: Signature, halo: Halo, size: Size, amplitude: float) -> Iterator[Array]:
    """Images of one impulse, of either sign: just before and just after what a block at a seam sees."""
    spec = signature.inputs[0]
    # Where the second of the smaller tiles begins to be kept.
    seam = halo.halo + halo.multiple
    side, narrow = size
    for way, (before, after) in enumerate(halo.reach):
        for place in (seam - before, seam - 1 + after):
            where = (0, place, narrow // 2) if way == HEIGHT else (0, narrow // 2, place)
            shape = (1, *((side, narrow) if way == HEIGHT else (narrow, side)), spec.shape[-1])
            for sign in (1, -1):
                if spec.data_type == DATA_TYPE_UINT8:
                    image = np.full(shape, 0 if sign > 0 else 255, np.uint8)
                    image[where] = 255 - image[where]
                else:
                    image = np.zeros(shape, np.float32)
                    image[where] = sign * amplitude
                yield image


def _is_finite(run: Run, inputs: Sequence[Array]) -> bool:
    return all(bool(np.isfinite(array).all()) for array in run(*inputs).values())
