"""Mutations of graphs: what may go wrong in export, each defect with the check that must refuse it."""

from collections.abc import Callable

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper


def set_initialiser(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[ModelProto], None]:
    def apply(model: ModelProto) -> None:
        tensor = next(each for each in model.graph.initializer if name in each.name)
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), tensor.name))

    return apply


def disturb_dead_unit(weights: np.ndarray) -> np.ndarray:
    weights[0, 0] += np.float32(0.01)
    return weights


def swap_outputs(model: ModelProto) -> None:
    """Means for log-variances and the other way round, bounded as they should be."""
    split = next(node for node in model.graph.node if node.op_type == "Split")
    split.output[:] = reversed(split.output)


def hide_weights(model: ModelProto) -> None:
    """Other weights in a constant among the nodes, under the output of which nothing shows."""
    tensor = next(each for each in model.graph.initializer if "decoder.weight" in each.name)
    other = numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(1e-7), tensor.name)
    model.graph.initializer.remove(tensor)
    model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=other))


def unwrap_weights(model: ModelProto) -> None:
    """The same in a node without a tensor around them."""
    tensor = next(each for each in model.graph.initializer if "decoder.weight" in each.name)
    numbers = (numpy_helper.to_array(tensor) + np.float32(1e-7)).ravel().tolist()
    model.graph.initializer.append(numpy_helper.from_array(np.array(tensor.dims), "its_shape"))
    model.graph.initializer.remove(tensor)
    model.graph.node.insert(0, helper.make_node("Reshape", ["numbers", "its_shape"], [tensor.name]))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["numbers"], value_floats=numbers))


def rename_bias(model: ModelProto) -> None:
    """The eight numbers of a hidden layer's bias under another name, a little other than they were."""
    tensor = next(each for each in model.graph.initializer if each.name == "model.encoder.1.bias")
    for node in model.graph.node:
        node.input[:] = ["stranger" if name == tensor.name else name for name in node.input]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(1e-7), "stranger"))


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


def unclip(model: ModelProto) -> None:
    """Log-variances as the last layer makes them."""
    clip = next(node for node in model.graph.node if node.op_type == "Clip")
    source, output = clip.input[0], clip.output[0]
    clip.CopyFrom(helper.make_node("Identity", [source], [output]))


def clip_bound(name: str, value: float) -> Callable[[ModelProto], None]:
    def apply(model: ModelProto) -> None:
        clip = next(node for node in model.graph.node if node.op_type == "Clip")
        bound = clip.input[{"min": 1, "max": 2}[name]]
        set_initialiser(bound, lambda _: np.float32(value))(model)

    return apply


# Name: family, signature, what is done to its graph, the check that refuses it.
def exchange_height_and_width(model: ModelProto) -> None:
    """The graph of the transposed image, transposed back once too rarely."""
    for node in model.graph.node:
        node.output[:] = ["straight" if name == "denoised" else name for name in node.output]
    model.graph.node.append(helper.make_node("Transpose", ["straight"], ["denoised"], perm=[0, 2, 1, 3]))


def average(model: ModelProto) -> None:
    """Scores that are the mean of their maps instead of the largest value."""
    next(node for node in model.graph.node if node.op_type == "ReduceMax").op_type = "ReduceMean"


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
    "tensor of no network": (
        "ae",
        "decode",
        lambda model: model.graph.initializer.append(numpy_helper.from_array(np.ones(100, np.float32), "stranger")),
        "weights",
    ),
    "renamed small bias": ("multitask", "reconstruct", rename_bias, "weights"),
    "weights in a constant": ("ae", "decode", hide_weights, "weights"),
    "weights without a tensor": ("ae", "decode", unwrap_weights, "weights"),
    "swapped outputs": ("multitask", "encode", swap_outputs, "numbers"),
    "wrong scale": ("ae", "encode", set_initialiser("scalar_tensor", lambda _: np.float32(256)), "numbers"),
    "shifted images": ("ae", "decode", shift_output(1e-3), "numbers"),
    "images shifted within the tolerance": ("ae", "reconstruct", shift_output(9e-6), "quality"),
    "log-variances without bounds": ("multitask", "encode", unclip, "structure"),
    "log-variances bounded too far below": ("multitask", "encode", clip_bound("min", -15), "structure"),
    "log-variances bounded too near above": ("multitask", "encode", clip_bound("max", 13), "structure"),
    "mean for the largest value": ("detector", "detect", average, "numbers"),
    "smoothing of another width": ("detector", "detect", set_initialiser("smoothing", lambda w: w * 1.001), "weights"),
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
