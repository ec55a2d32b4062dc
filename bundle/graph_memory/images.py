"""Shape inference of operators on images: convolutions, pooling, resizing (https://onnx.ai/onnx/operators/)."""

import math
from collections.abc import Callable, Sequence

from bundle.graph_memory.node import Node, Shape


def _windows(node: Node, kernel: Sequence[int]) -> list[int]:
    """Sizes of what a window that slides over the input gives."""
    sizes = node.shape()[2:]
    strides, dilations = node.ints("strides", [1] * len(sizes)), node.ints("dilations", [1] * len(sizes))
    automatic, pads = node.text("auto_pad", "NOTSET"), node.ints("pads", [0] * 2 * len(sizes))
    if automatic.startswith("SAME"):
        return [math.ceil(size / stride) for size, stride in zip(sizes, strides, strict=True)]
    if automatic == "VALID":
        pads = [0] * 2 * len(sizes)
    places = [
        size + pads[axis] + pads[axis + len(sizes)] - dilations[axis] * (kernel[axis] - 1) - 1
        for axis, size in enumerate(sizes)
    ]
    if not node.integer("ceil_mode", 0):
        return [place // stride + 1 for place, stride in zip(places, strides, strict=True)]
    # The last window must begin inside the input or its padding before.
    return [
        math.ceil(places[axis] / stride) + (math.ceil(places[axis] / stride) * stride < size + pads[axis])
        for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True))
    ]


def _conv(node: Node) -> list[Shape]:
    weights = node.shape(1)
    return [(node.shape()[0], weights[0], *_windows(node, node.ints("kernel_shape", weights[2:])))]


def _pool(node: Node) -> list[Shape]:
    return [(*node.shape()[:2], *_windows(node, node.ints("kernel_shape")))] * node.outputs


def _global_pool(node: Node) -> list[Shape]:
    shape = node.shape()
    return [(*shape[:2], *[1] * len(shape[2:]))]


def _conv_transpose(node: Node) -> list[Shape]:
    shape, weights = node.shape(), node.shape(1)
    sizes, kernel = shape[2:], node.ints("kernel_shape", weights[2:])
    axes = range(len(sizes))
    strides, dilations = node.ints("strides", [1 for _ in axes]), node.ints("dilations", [1 for _ in axes])
    pads, added = node.ints("pads", [0] * 2 * len(sizes)), node.ints("output_padding", [0 for _ in axes])
    if node.text("auto_pad", "NOTSET").startswith("SAME"):
        made = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    else:
        made = [
            strides[axis] * (sizes[axis] - 1) + added[axis] + (kernel[axis] - 1) * dilations[axis] + 1
            - pads[axis] - pads[axis + len(sizes)]
            for axis in axes
        ]  # fmt: skip
    made = node.ints("output_shape", made)[-len(sizes) :]
    return [(shape[0], weights[1] * node.integer("group", 1), *made)]


def _resize(node: Node) -> list[Shape]:
    sizes = [*node.shape()]
    axes = node.ints("axes", range(len(sizes)))
    if node.has(3) and node.shape(3) != (0,):
        wanted = dict(zip(axes, node.integers(3), strict=True))
        policy = node.text("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            pick = min if policy == "not_larger" else max
            scale = pick(size / sizes[axis] for axis, size in wanted.items())
            wanted = {axis: math.floor(scale * sizes[axis] + 0.5) for axis in wanted}
        return [tuple(wanted.get(axis, size) for axis, size in enumerate(sizes))]
    cropped = node.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    roi = node.floats(1) if cropped else [0.0] * len(axes) + [1.0] * len(axes)
    for place, (axis, scale) in enumerate(zip(axes, node.floats(2), strict=True)):
        sizes[axis] = math.floor(sizes[axis] * (roi[place + len(axes)] - roi[place]) * scale)
    return [tuple(sizes)]


def _depth_to_space(node: Node) -> list[Shape]:
    (rows, channels, height, width), block = node.shape(), node.integer("blocksize", 1)
    return [(rows, channels // block**2, height * block, width * block)]


def _space_to_depth(node: Node) -> list[Shape]:
    (rows, channels, height, width), block = node.shape(), node.integer("blocksize", 1)
    return [(rows, channels * block**2, height // block, width // block)]


IMAGE_RULES: dict[str, Callable[[Node], list[Shape]]] = {
    "AveragePool": _pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "GlobalAveragePool": _global_pool,
    "GlobalLpPool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "LpPool": _pool,
    "MaxPool": _pool,
    "Resize": _resize,
    "SpaceToDepth": _space_to_depth,
}
