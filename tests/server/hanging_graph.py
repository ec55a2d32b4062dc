"""Denoisers whose graph takes minutes, for white images alone: it takes as much of its matrices as the image says."""

from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bundle import layout
from bundle.golden import Case, Golden
from tests.server.conftest import write_graph

_SIDE = 1024
_PRODUCTS = 2000
# One step of a graph, which onnxruntime does not leave: channels, kernel and image of a convolution.
_CHANNELS, _KERNEL, _IMAGE = 64, 47, 256


def write_hanging_denoiser(repository: Path, name: str = "hanging", *, steps: bool = True, scale: int = 1) -> None:
    """Hundreds of products of matrices, one after the other; or without steps one convolution of some seconds.

    That takes scale^4 times as long.
    """
    sides = {"side": _SIDE} if steps else {"channels": _CHANNELS, "kernel": scale * _KERNEL, "image": scale * _IMAGE}
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["highest"], keepdims=0),
        helper.make_node("Floor", ["highest"], ["floor"]),
        helper.make_node("Cast", ["floor"], ["white"], to=TensorProto.INT64),
    ]
    constants = [
        numpy_helper.from_array(np.array([1]), "one"),
        numpy_helper.from_array(np.array(0, np.float32), "nothing"),
    ]
    for side, most in sides.items():
        constants.append(numpy_helper.from_array(np.array([most - 1]), f"{side}_more"))
        nodes.append(helper.make_node("Mul", ["white", f"{side}_more"], [f"{side}_grown"]))
        nodes.append(helper.make_node("Add", [f"{side}_grown", "one"], [side]))
    work, result = _products() if steps else _convolution()
    nodes += [
        *work,
        helper.make_node("ReduceMax", [result], ["top"], keepdims=0),
        helper.make_node("Mul", ["top", "nothing"], ["zero"]),
        helper.make_node("Add", ["images", "zero"], ["denoised"]),
    ]
    # Products keep this value: numbers that grow ever smaller become so small at last that a step takes a second.
    small = np.full((1, 1) if steps else (1, 1, 1, 1), 1 / _SIDE, np.float32)
    constants += [numpy_helper.from_array(small, "small"), *_whole(sides)]
    write_graph(repository, name, 1, nodes, constants)


def _whole(sides: dict[str, int]) -> list[TensorProto]:
    """Shapes of the matrices, of which a run takes a part."""
    if "side" in sides:
        shapes = {"matrix": [sides["side"]] * 2}
    else:
        channels, kernel, image = sides.values()
        shapes = {"image": [1, channels, image, image], "kernel": [channels, channels, kernel, kernel]}
    corners = {f"{name}_corner": [0] * len(shape) for name, shape in shapes.items()}
    given = {f"{name}_whole": shape for name, shape in shapes.items()} | corners
    return [numpy_helper.from_array(np.array(numbers), name) for name, numbers in given.items()]


def _part(name: str, ends: list[str], result: str) -> list[NodeProto]:
    return [
        helper.make_node("Expand", ["small", f"{name}_whole"], [f"{name}_all"]),
        helper.make_node("Concat", ends, [f"{name}_ends"], axis=0),
        helper.make_node("Slice", [f"{name}_all", f"{name}_corner", f"{name}_ends"], [result]),
    ]


def _products() -> tuple[list[NodeProto], str]:
    nodes = _part("matrix", ["side", "side"], "x0")
    nodes += [helper.make_node("MatMul", [f"x{index}", "x0"], [f"x{index + 1}"]) for index in range(_PRODUCTS)]
    return nodes, f"x{_PRODUCTS}"


def _convolution() -> tuple[list[NodeProto], str]:
    return [
        *_part("image", ["one", "channels", "image", "image"], "x"),
        *_part("kernel", ["channels", "channels", "kernel", "kernel"], "w"),
        helper.make_node("Conv", ["x", "w"], ["y"]),
    ], "y"


def hang_in_self_test(repository: Path, name: str = "hanging") -> None:
    """Make an image white on which a written denoiser is tested when it is loaded."""
    folder = repository / name / "1"
    white = np.ones((1, 32, 32, 1), np.float32)
    golden = Golden({"denoise": (Case({"images": white}, {"denoised": white}),)}).to_bytes()
    (folder / layout.GOLDEN_FILE).write_bytes(golden)
    model = layout.read_model(folder)
    graph = (folder / "denoise.onnx").read_bytes()
    del model.files[:]
    model.files.extend(layout.describe_files({"denoise.onnx": graph, layout.GOLDEN_FILE: golden}))
    (folder / layout.MODEL_FILE).write_bytes(layout.encode_model(model))
