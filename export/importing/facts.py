"""Facts of a model from its graphs' own tensors: image shape, latents, family."""

from collections.abc import Mapping, Sequence
from math import prod

from onnx import ModelProto

from export.errors import InputError
from export.graphs.tensor_specs import Facts
from export.importing.ports import FLOATS, ImageShape, Port, image_shape, ports

# A row of 4 GiB, which no load would admit.
_MAX_NUMBERS = 2**30

Seen = Mapping[str, tuple[list[Port], list[Port]]]


def facts(models: Mapping[str, ModelProto], labels: Sequence[str], images: ImageShape | None) -> Facts:
    """Read them from the inputs and outputs of graphs by signature.

    Raises:
        InputError: they do not make a model together, or the labels do not fit.
    """
    seen = {name: ports(model) for name, model in models.items()}
    classes = prod(seen["classify"][1][0].shape) if "classify" in seen else 0
    if classes != len(labels):
        raise InputError(f"expected {classes} names for {classes} classes, got {len(labels)}: give --labels a,b,…")
    variational = "encode" in seen and len(seen["encode"][1]) > 1
    shape, latents = _image_shape(seen, images), _latents(seen)
    if max(prod(shape), prod(latents)) > _MAX_NUMBERS:
        got = f"images of {shape} and latents of {latents[0]}"
        raise InputError(f"expected images and latents of at most {_MAX_NUMBERS} numbers, got {got}")
    spatial = () if len(latents) == 1 else latents
    takes_floats = all(inputs[0].element in FLOATS for name, (inputs, _) in seen.items() if name != "decode")
    return Facts(
        _family(seen, labels),
        variational,
        shape,
        latents[-1] if not spatial else 0,
        tuple(labels),
        spatial,
        # As it was of one size: bytes.
        float_images=not shape[0] and takes_floats,
    )


def _family(seen: Seen, labels: Sequence[str]) -> str:
    """From the outputs: a second one of the encoder holds the log-variances."""
    if set(seen) in ({"denoise"}, {"detect"}):
        return "denoiser" if "denoise" in seen else "detector"
    if "encode" not in seen or len(seen["encode"][1]) == 1:
        return "ae"
    return "multitask" if labels else "vae"


def _image_shape(seen: Seen, images: ImageShape | None) -> ImageShape:
    pictures = [outputs if name == "decode" else inputs for name, (inputs, outputs) in seen.items()]
    shapes = {image_shape(each[0].shape, images) for each in pictures if each}
    if len(shapes) != 1:
        raise InputError(f"expected images of one shape in all files, got {sorted(shapes)}")
    return shapes.pop()


def _latents(seen: Seen) -> tuple[int, ...]:
    """(D,) of vectors and of codes of one size, which are flattened; (0, 0, c) of any size."""
    codes = [seen[name][side] for name, side in (("encode", 1), ("decode", 0)) if name in seen]
    found = {(0, 0, max(each[0].shape)) if each[0].free else (prod(each[0].shape),) for each in codes if each}
    if len(found) > 1:
        sizes = sorted(shape[-1] for shape in found)
        raise InputError(f"expected latents of one size in encoder and decoder, got {sizes}")
    return found.pop() if found else (0,)
