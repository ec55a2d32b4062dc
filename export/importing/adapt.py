"""Adapts graphs made elsewhere to the tensors of this project: names, layout, scale, free batch; nothing else."""

from collections.abc import Sequence
from math import prod
from typing import Any, cast

import onnx
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT8, Signature, TensorSpec
from autoencoder.v1.shapes import FREE
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx.compose import add_prefix

from bundle.detection import Score
from bundle.graph import BATCH, IR_VERSION
from bundle.tensor_types import ONNX_TYPES
from export.errors import InputError
from export.graphs.metadata import stripped
from export.graphs.scaling import PLAIN, Scaling
from export.importing.ports import FLOATS, ImageShape, Port, maps_port, ports

IMAGES = frozenset({"images", "reconstructions", "denoised"})
"""Outputs that are images."""
# Outputs that are made of others.
_MADE = frozenset({"squared_errors", "scores"})
_PREFIX = "imported/"
_STANDARD = {"", "ai.onnx"}
_NEW_REDUCTIONS = 18  # the opset from which axes are an input


def adapt(
    model: ModelProto,
    signature: Signature,
    images: ImageShape,
    scaling: Scaling = PLAIN,
    *,
    clip: bool = False,
    score: Score = "max",
) -> bytes:
    """Give a graph the tensors of a signature; its images are scaled, and scaled back, and with `clip` cut to 0 … 1.

    Of a detector the output is taken that has a number for each pixel, and `score` is made of it.

    Raises:
        InputError: its tensors cannot be those of the signature.
    """
    inputs, outputs = ports(model)
    expected = [spec for spec in signature.outputs if spec.name not in _MADE]
    if len(inputs) != 1 or len(outputs) < len(expected):
        raise InputError(
            f"{signature.name}: expected 1 input and {len(expected)} outputs, got {len(inputs)} and {len(outputs)}"
        )
    inner = add_prefix(stripped(model), _PREFIX)
    if signature.name == "detect":
        outputs = [maps_port(outputs, images)]
    opset = next((each.version for each in inner.opset_import if each.domain in _STANDARD), 0)
    rewriter = _GraphRewriter(opset, images, scaling, clip=clip)
    before = rewriter.enter(signature.inputs[0], inputs[0])
    after = [node for spec, port in zip(expected, outputs, strict=False) for node in rewriter.leave(spec, port)]
    if any(spec.name == "squared_errors" for spec in signature.outputs):
        after += rewriter.errors(signature.inputs[0].name, expected[0].name)
    if any(spec.name == "scores" for spec in signature.outputs):
        after.append(rewriter.reduced("ReduceMax" if score == "max" else "ReduceMean", "maps", "scores"))
    return _assembled(inner, signature, [*before, *inner.graph.node, *after], rewriter.constants)


def joined(encode: bytes, decode: bytes, signature: Signature, images: ImageShape) -> bytes:
    """The reconstruction through two adapted graphs."""
    first = add_prefix(onnx.load_model_from_string(encode), "encode/")
    second = add_prefix(onnx.load_model_from_string(decode), "decode/")
    merge = cast("Any", onnx.compose).merge_models
    both: ModelProto = merge(first, second, [("encode/latents", "decode/latents")], outputs=["decode/images"])
    return adapt(both, signature, images)


def fed(port: Port, spec: TensorSpec, images: ImageShape, scaling: Scaling = PLAIN) -> str:
    """What a graph gets at its input, in words."""
    shape = ", ".join(map(str, ("N", *port.shape)))
    if port.free:
        shape = shape.replace("0", "any")
    if spec.name == "latents":
        return f"latents of {prod(port.shape) or max(port.shape)} numbers as ({shape})"
    scaled = spec.data_type != DATA_TYPE_UINT8 or port.element in FLOATS
    pixels = "pixels as floats in 0 … 1 (bytes / 255)" if scaled else "pixels as bytes"
    if scaling.changes:
        mean, std = (", ".join(f"{each:g}" for each in values) for values in (scaling.mean, scaling.std))
        pixels += f", less {mean}, over {std}"
    return f"{pixels}, ({shape}), channels {'last' if port.is_channels_last(images) else 'first'}"


class _GraphRewriter:
    """Makes nodes before and after a graph, and the constants that they read."""

    def __init__(self, opset: int, images: ImageShape, scaling: Scaling, *, clip: bool) -> None:
        self.constants: list[TensorProto] = []
        self._opset = opset
        self._images = images
        self._scaling = scaling
        self._clip = clip

    def enter(self, spec: TensorSpec, port: Port) -> list[NodeProto]:
        """Nodes from our input to the graph's."""
        if spec.name != "latents":
            _check_images(spec, port, self._images)
        steps = [_cast(port.element)] if ONNX_TYPES[spec.data_type] != port.element else []
        if spec.data_type == DATA_TYPE_UINT8 and port.element in FLOATS:
            steps.append(("Div", [self._constant(port.element, [], [255])], {}))
        if spec.name != "latents" and self._scaling.changes:
            mean, std = self._scaling.mean, self._scaling.std
            steps.append(("Sub", [self._constant(port.element, [len(mean)], mean)], {}))
            steps.append(("Div", [self._constant(port.element, [len(std)], std)], {}))
        if (spec.name != "latents" or port.free) and not port.is_channels_last(self._images):
            steps.append(("Transpose", [], {"perm": [0, 3, 1, 2]}))
        if not port.free and (spec.name == "latents" or len(port.shape) != 3):  # noqa: PLR2004 (rank of an image)
            steps += self._reshape(tuple(spec.shape[1:]), port.shape)
        return _chain(spec.name, _PREFIX + port.name, steps)

    def leave(self, spec: TensorSpec, port: Port) -> list[NodeProto]:
        """Nodes from the graph's output to ours."""
        height, width, channels = images = (*self._images[:2], 1) if spec.name == "maps" else self._images
        steps = [_cast(TensorProto.FLOAT)] if port.element != TensorProto.FLOAT else []
        if len(spec.shape) != 4:  # noqa: PLR2004 (rank of a batch of images)
            steps += self._reshape(port.shape, tuple(spec.shape[1:]))
        else:
            if not port.free:
                _check_images(spec, port, images)
            if len(port.shape) != 3:  # noqa: PLR2004 (rank of an image)
                steps += self._reshape(port.shape, (channels, height, width))
            if not port.is_channels_last(images):
                steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
            if spec.name in IMAGES:
                steps += self._unscaled()
        return _chain(_PREFIX + port.name, spec.name, steps)

    def _unscaled(self) -> list[Any]:
        steps: list[Any] = []
        if self._scaling.changes:
            mean, std = self._scaling.mean, self._scaling.std
            steps.append(("Mul", [self._constant(TensorProto.FLOAT, [len(std)], std)], {}))
            steps.append(("Add", [self._constant(TensorProto.FLOAT, [len(mean)], mean)], {}))
        if self._clip:
            steps.append(("Clip", [self._constant(TensorProto.FLOAT, [], [end]) for end in (0, 1)], {}))
        return steps

    def errors(self, images: str, reconstructions: str) -> list[NodeProto]:
        """Mean squared error per pixel."""
        node, scale = helper.make_node, self._constant(TensorProto.FLOAT, [], [255])
        return [
            node("Cast", [images], ["errors/floats"], to=TensorProto.FLOAT),
            node("Div", ["errors/floats", scale], ["errors/pixels"]),
            node("Sub", [reconstructions, "errors/pixels"], ["errors/differences"]),
            node("Mul", ["errors/differences", "errors/differences"], ["errors/squares"]),
            self.reduced("ReduceMean", "errors/squares", "squared_errors"),
        ]

    def reduced(self, operator: str, images: str, numbers: str) -> NodeProto:
        """One number for each image."""
        axes, newer = [1, 2, 3], self._opset >= _NEW_REDUCTIONS
        more = [self._constant(TensorProto.INT64, [3], axes)] if newer else []
        attributes: dict[str, Any] = {"keepdims": 0} | ({} if newer else {"axes": axes})
        return helper.make_node(operator, [images, *more], [numbers], **attributes)

    def _reshape(self, before: tuple[int, ...], after: tuple[int, ...]) -> list[Any]:
        if before == after:
            return []
        if prod(before) != prod(after):
            raise InputError(f"expected {prod(after)} numbers a row as in the rest of the model, got {prod(before)}")
        return [("Reshape", [self._constant(TensorProto.INT64, [len(after) + 1], [-1, *after])], {})]

    def _constant(self, element: int, shape: Sequence[int], values: Sequence[float]) -> str:
        name = f"constant/{len(self.constants)}"
        self.constants.append(helper.make_tensor(name, element, shape, values))
        return name


def _cast(element: int) -> Any:  # noqa: ANN401 (a step: operator, further inputs, attributes)
    return ("Cast", [], {"to": element})


def _chain(first: str, last: str, steps: Sequence[Any]) -> list[NodeProto]:
    """Nodes one after another, from tensor to tensor."""
    steps = steps or [("Identity", [], {})]
    names = [first, *(f"{first}/{last}/{index}" for index in range(len(steps) - 1)), last]
    return [
        helper.make_node(operator, [source, *more], [target], **attributes)
        for (operator, more, attributes), source, target in zip(steps, names, names[1:], strict=False)
    ]


def _check_images(spec: TensorSpec, port: Port, images: ImageShape) -> None:
    if prod(port.shape) != prod(images):
        raise InputError(f"{spec.name}: expected images of {images}, got {port.shape} a row")
    if port.element not in FLOATS and port.element != ONNX_TYPES[spec.data_type]:
        raise InputError(f"{spec.name}: expected floating-point numbers, got element type {port.element}")


def _assembled(
    inner: ModelProto, signature: Signature, nodes: Sequence[NodeProto], constants: Sequence[TensorProto]
) -> bytes:
    graph = helper.make_graph(
        nodes,
        signature.name,
        [_value(spec) for spec in signature.inputs],
        [_value(spec) for spec in signature.outputs],
        [*inner.graph.initializer, *constants],
    )
    # Some exporters always declare more, as ai.onnx.ml; no allowed operator is of another domain.
    opsets = [each for each in inner.opset_import if each.domain in _STANDARD]
    made = helper.make_model(graph, opset_imports=opsets, producer_name=inner.producer_name)
    made.ir_version = IR_VERSION
    return made.SerializeToString(deterministic=True)


def _value(spec: TensorSpec) -> onnx.ValueInfoProto:
    prefix = "latent_" if spec.name == "latents" else ""
    names = f"{prefix}height", f"{prefix}width"
    sizes = [names[axis] if size == FREE else size for axis, size in enumerate(spec.shape[1:])]
    return helper.make_tensor_value_info(spec.name, ONNX_TYPES[spec.data_type], [BATCH, *sizes])
