"""The halo of single operators and of chains, against what a run of the graph shows."""

import numpy as np
import pytest
from onnx import NodeProto
from small_graphs import CHANNELS, SPEC, chain, node, weights

from export.gate.session import open_session
from export.gate.tiling.axes import UntileableError
from export.gate.tiling.halo import derive

INTS = np.int64
THREE, FOUR, FIVE = weights(2, 2, 3), weights(2, 2, 4), weights(2, 2, 5)
SCALES = {"up": np.array([1, 1, 2, 2], np.float32), "down": np.array([1, 1, 0.5, 0.5], np.float32)}
THRICE = {"by": np.array([1, 1, 3, 3], np.float32)}
CONV3 = node("Conv", "-", "w", pads=[1, 1, 1, 1])
HALF = node("Conv", "-", "half", strides=[2, 2], pads=[1, 1, 1, 1])
DOUBLE = node("ConvTranspose", "-", "double", strides=[2, 2], pads=[1, 1, 1, 1])


def resize(by: str, mode: str, transformation: str, rounding: str = "floor") -> NodeProto:
    return node("Resize", "-", "", by, mode=mode, coordinate_transformation_mode=transformation, nearest_mode=rounding)


# Nodes, constants, the multiple of the input, cells before and after, the multiple of tiles.
BOUNDED = {
    "elementwise": ([node("Relu", "-")], {}, 1, (0, 0), 1),
    "convolution": ([CONV3], {"w": THREE}, 1, (1, 1), 1),
    "two convolutions": ([CONV3, node("Relu", "-"), CONV3], {"w": THREE}, 1, (2, 2), 1),
    "dilated": ([node("Conv", "-", "w", pads=[2] * 4, dilations=[2, 2])], {"w": THREE}, 1, (2, 2), 1),
    "causal": ([node("Conv", "-", "w", pads=[4, 4, 0, 0])], {"w": FIVE}, 1, (4, 0), 1),
    "same padding": ([node("Conv", "-", "w", auto_pad="SAME_UPPER")], {"w": FOUR}, 1, (1, 2), 1),
    "same padding, lower": ([node("Conv", "-", "w", auto_pad="SAME_LOWER")], {"w": FOUR}, 1, (2, 1), 1),
    "max pooling": ([node("MaxPool", "-", kernel_shape=[3, 3], pads=[1] * 4)], {}, 1, (1, 1), 1),
    "average pooling": ([node("AveragePool", "-", kernel_shape=[5, 5], pads=[2] * 4)], {}, 1, (2, 2), 1),
    "halved": ([HALF], {"half": FOUR}, 2, (1, 1), 2),
    "doubled": ([DOUBLE], {"double": FOUR}, 1, (1, 1), 1),
    "halved and doubled": ([HALF, CONV3, DOUBLE], {"half": FOUR, "double": FOUR, "w": THREE}, 2, (5, 5), 2),
    "pooled and resized": (
        [node("MaxPool", "-", kernel_shape=[2, 2], strides=[2, 2]), CONV3, resize("up", "nearest", "asymmetric")],
        {"w": THREE, **SCALES},
        2,
        (2, 2),
        2,
    ),
    "bilinear": ([resize("up", "linear", "half_pixel"), CONV3], {"w": THREE, **SCALES}, 1, (1, 1), 1),
    "bilinear, by three": ([resize("by", "linear", "half_pixel")], THRICE, 1, (1, 1), 1),
    "nearest, by three": (
        [resize("by", "nearest", "half_pixel", "round_prefer_floor"), CONV3],
        {"w": THREE, **THRICE},
        1,
        (1, 1),
        1,
    ),
    "bilinear to half": ([resize("down", "linear", "half_pixel")], SCALES, 2, (0, 0), 2),
    "channels to pixels": (
        [node("Conv", "-", "many", pads=[1] * 4), node("DepthToSpace", "-", blocksize=2)],
        {"many": weights(8, 2, 3)},
        1,
        (1, 1),
        1,
    ),
    "pixels to channels and back": (
        [
            node("SpaceToDepth", "-", blocksize=2),
            node("Conv", "-", "w", pads=[1] * 4),
            node("DepthToSpace", "-", blocksize=2),
        ],
        {"w": weights(8, 8, 3)},
        2,
        (2, 2),
        2,
    ),
    "mirrored edge": (
        [node("Pad", "-", "margins", mode="reflect"), node("Conv", "-", "w")],
        {"w": FIVE, "margins": np.array([0, 0, 2, 2, 0, 0, 2, 2], INTS)},
        1,
        (2, 2),
        1,
    ),
    "cut and filled again": (
        # What is cut off at the end of a window is not what is cut off at the end of the image.
        [node("Slice", "-", "zero", "end", "axes"), node("Pad", "-", "margins"), CONV3],
        {
            "w": THREE,
            "zero": np.array([0, 0], INTS),
            "end": np.array([-3, -3], INTS),
            "axes": np.array([2, 3], INTS),
            "margins": np.array([0, 0, 0, 0, 0, 0, 3, 3], INTS),
        },
        1,
        (1, 4),
        1,
    ),
    "shifted": (
        [node("Slice", "-", "start", "end", "axes"), node("Pad", "-", "margins")],
        {
            "start": np.array([2, 2], INTS),
            "end": np.array([2**31, 2**31], INTS),
            "axes": np.array([2, 3], INTS),
            "margins": np.array([0, 0, 0, 0, 0, 0, 2, 2], INTS),
        },
        1,
        (0, 2),
        1,
    ),
    "norm over channels": (
        [
            node("Transpose", "-", perm=[0, 2, 3, 1]),
            node("LayerNormalization", "-", "ones", axis=-1),
            node("Transpose", "-", perm=[0, 3, 1, 2]),
        ],
        {"ones": np.ones(CHANNELS, np.float32)},
        1,
        (0, 0),
        1,
    ),
    "flattened and back": (
        [
            node("Shape", "images"),
            node("Reshape", "images", "flat"),
            node("Transpose", "-", perm=[0, 2, 1]),
            node("MatMul", "-", "mix"),
            node("Transpose", "-", perm=[0, 2, 1]),
            node("Reshape", "-", "value0"),
        ],
        {"flat": np.array([0, 0, -1], INTS), "mix": np.ones((CHANNELS, CHANNELS), np.float32)},
        1,
        (0, 0),
        1,
    ),
    "channels picked": ([node("Gather", "-", "second", axis=1)], {"second": np.array([1, 0], INTS)}, 1, (0, 0), 1),
    "strided slice": (
        [node("Slice", "-", "start", "end", "axes", "steps")],
        {
            "start": np.array([1, 1], INTS),
            "end": np.array([2**31, 2**31], INTS),
            "axes": np.array([2, 3], INTS),
            "steps": np.array([2, 2], INTS),
        },
        2,
        (0, 0),
        2,
    ),
}


def seen(graph: bytes, way: int, multiple: int) -> tuple[int, int]:
    """Cells before and after a block of `multiple` that its outputs change with, in a run of the graph."""
    cells = 24
    size = (cells, 12) if way == 0 else (12, cells)
    base = np.random.default_rng(1).uniform(1, 2, (1, CHANNELS, *size)).astype(np.float32)
    session = open_session(graph)
    before = session.run({"images": base})["denoised"]
    assert before.shape[2 + way] % (cells // multiple) == 0
    start, changed = cells // 2 // multiple * multiple, set[int]()
    for cell in range(cells):
        other = base.copy()
        other[
            (slice(None), slice(None), *(slice(cell, cell + 1) if axis == way else slice(None) for axis in (0, 1)))
        ] += 0.5
        moved = np.abs(session.run({"images": other})["denoised"] - before).max(axis=(0, 1, 3 - way)) > 0
        ratio = len(moved) / cells
        if moved[int(start * ratio) : int((start + multiple) * ratio)].any():
            changed.add(cell)
    return max(start - min(changed), 0), max(max(changed) - (start + multiple - 1), 0)


@pytest.mark.parametrize("name", BOUNDED)
def test_the_halo_is_what_a_run_shows(name: str) -> None:
    nodes, constants, step, reach, multiple = BOUNDED[name]
    graph = chain(nodes, constants)
    found = derive(graph, SPEC, step)
    assert (found.reach, found.multiple) == ((reach, reach), multiple)
    assert found.halo == -(-max(reach) // multiple) * multiple
    if name != "cut and filled again":  # no run of the whole image shows it
        assert seen(graph, 0, multiple) == seen(graph, 1, multiple) == reach


MEAN = np.array([2, 3], INTS)
UNBOUNDED = {
    "mean": ([node("ReduceMean", "-", "axes", keepdims=1)], {"axes": MEAN}, "ReduceMean"),
    "instance norm": (
        [node("InstanceNormalization", "-", "one", "zero")],
        {"one": np.ones(2, np.float32), "zero": np.zeros(2, np.float32)},
        "InstanceNormalization",
    ),
    "group norm": (
        [CONV3, node("GroupNormalization", "-", "one", "zero", num_groups=1)],
        {"w": THREE, "one": np.ones(2, np.float32), "zero": np.zeros(2, np.float32)},
        "GroupNormalization",
    ),
    "global pooling": ([node("GlobalAveragePool", "-")], {}, "GlobalAveragePool"),
    "softmax over a row": ([node("Softmax", "-", axis=3)], {}, "Softmax"),
    "norm over a row": ([node("LayerNormalization", "-", "one", axis=3)], {"one": np.ones(1, np.float32)}, "LayerNorm"),
    "wrapped": (
        [node("Pad", "-", "margins", mode="wrap"), node("Conv", "-", "w")],
        {"w": THREE, "margins": np.array([0, 0, 1, 1, 0, 0, 1, 1], INTS)},
        "wraps around",
    ),
    "corners aligned": ([resize("up", "linear", "align_corners")], SCALES, "align_corners"),
    "cubic": ([resize("up", "cubic", "half_pixel")], SCALES, "nearest or linear"),
    "joined to itself": ([node("Concat", "-", "-", axis=2)], {}, "along height"),
    "counted from the end": (
        [node("Slice", "-", "start", "end", "axes")],
        {"start": np.array([-8], INTS), "end": np.array([2**31], INTS), "axes": np.array([2], INTS)},
        "Slice",
    ),
    "interleaved": (
        [node("Reshape", "-", "apart"), node("Transpose", "-", perm=[0, 1, 3, 2, 4]), node("Reshape", "-", "together")],
        {"apart": np.array([0, 0, 2, -1, 142], INTS), "together": np.array([0, 0, -1, 142], INTS)},
        "several axes|mixes height",
    ),
    "the size as a number": (
        [
            node("Shape", "images", start=2),
            node("Cast", "-", to=1),
            node("ReduceProd", "-", keepdims=0),
            node("Div", "images", "-"),
        ],
        {},
        "size of the image",
    ),
    # Of sizes that are no multiple of 4 the pooling drops the rest.
    "a rest that is dropped": ([node("MaxPool", "-", kernel_shape=[4, 4], strides=[4, 4])], {}, "grows unevenly"),
    "cut by the size": (
        [
            node("Shape", "images", start=2),
            node("Div", "-", "half"),
            node("Slice", "images", "-", "end", "axes"),
            node("Pad", "-", "margins"),
        ],
        {
            "half": np.array(2, INTS),
            "end": np.array([2**31, 2**31], INTS),
            "axes": np.array([2, 3], INTS),
            "margins": np.array([0] * 8, INTS),
        },
        "depends on the size",
    ),
}


@pytest.mark.parametrize("name", UNBOUNDED)
def test_what_sees_the_whole_image_is_named(name: str) -> None:
    nodes, constants, expected = UNBOUNDED[name]
    with pytest.raises(UntileableError, match=expected):
        derive(chain(nodes, constants), SPEC, 2)
