"""Graphs of free height and width, written node by node."""

from collections.abc import Sequence

import numpy as np
from autoencoder.v1.model_pb2 import DATA_TYPE_FLOAT32, Signature, TensorSpec
from onnx import NodeProto, TensorProto, helper, numpy_helper

CHANNELS = 2


def _signature(*sizes: int) -> Signature:
    spec = [TensorSpec(name=name, data_type=DATA_TYPE_FLOAT32, shape=[-1, *sizes]) for name in ("images", "denoised")]
    return Signature(name="denoise", file="denoise.onnx", inputs=spec[:1], outputs=spec[1:])


SPEC = _signature(CHANNELS, -1, -1)
"""Of a graph whose channels come first."""
IMAGES = _signature(-1, -1, CHANNELS)
"""Of one whose channels come last, as in bundles."""


def node(operator: str, *inputs: str, outputs: int = 1, **attributes: object) -> NodeProto:
    """A node whose outputs are called as it is when it is placed; `-` stands for what the node before it gave."""
    return helper.make_node(operator, list(inputs), [f"out{index}" for index in range(outputs)], **attributes)


def served(nodes: Sequence[NodeProto], constants: dict[str, object] | None = None) -> bytes:
    """As `chain`, of images whose channels come last."""
    first, last = node("Transpose", "-", perm=[0, 3, 1, 2]), node("Transpose", "-", perm=[0, 2, 3, 1])
    return chain([first, *nodes, last], constants, ("batch", "height", "width", CHANNELS))


def chain(
    nodes: Sequence[NodeProto],
    constants: dict[str, object] | None = None,
    sizes: Sequence[str | int] = ("batch", CHANNELS, "height", "width"),
) -> bytes:
    """A graph from `images` through the nodes one after the other to `denoised`."""
    before = "images"
    placed: list[NodeProto] = []
    for index, each in enumerate(nodes):
        last = index == len(nodes) - 1
        made = helper.make_node(
            each.op_type,
            [before if name == "-" else name for name in each.input],
            [
                "denoised" if last else f"value{index}" if not number else f"value{index}.{number}"
                for number in range(len(each.output))
            ],
            name=f"node{index}",
        )
        made.attribute.extend(each.attribute)
        placed.append(made)
        before = made.output[0]
    graph = helper.make_graph(
        placed,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, list(sizes))],
        [helper.make_tensor_value_info("denoised", TensorProto.FLOAT, ["batch", "a", "b", "c"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def weights(outputs: int, inputs: int, kernel: int) -> np.ndarray:
    """Positive ones, so that nothing cancels out."""
    drawn = np.random.default_rng(0).uniform(0.5, 1, (outputs, inputs, kernel, kernel))
    return (drawn / (inputs * kernel)).astype(np.float32)
