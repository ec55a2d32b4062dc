"""Probe: runs a module on reference images before anything is exported, and refuses what no graph could keep.

What it takes and gives; that it draws nothing at random, keeps nothing between calls, and computes in float64.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from export.errors import InputError
from export.modules.adapter import AdaptedModule, MethodName
from export.modules.source import in_a_line
from export.modules.trace import Operation, Trace, traced

_SPATIAL_RANK = 4
_IMAGE_METHODS = frozenset({"decode", "reconstruct", "denoise"})
# Outside 0 … 1 by more than rounding and ringing at edges, of so many of the pixels that it cannot be meant.
_SLACK = 0.1
_MOST_OUTSIDE = 0.1


class Codes(NamedTuple):
    """The answer of `encode`: latents and, of a variational module, log-variances."""

    latents: Tensor
    log_variances: Tensor | None


def probe(model: AdaptedModule, images: Tensor) -> Operation | None:
    """Learn a module's latents from its answers to images (N, C, H, W) in 0 … 1, and refuse what cannot be served.

    Returns the first operation, if any, that makes Python's numbers or shapes of a tensor's content: the exporter may
    refuse it.

    Raises:
        InputError: in training mode, fails, gives other shapes, draws random numbers, keeps state, computes in float32.
    """
    check_mode(model)
    untouched = copy.deepcopy(model)
    for each in (images, *([_wider(images, model.multiple)] if not model.image_shape[0] else [])):
        _learn(model, each)
    trace = _traced(copy.deepcopy(untouched), images)
    if trace.random is not None:
        raise InputError(f"expected a module that draws no random numbers, got {named(trace.random)}")
    _check_state(copy.deepcopy(untouched), images)
    if model.reference_precision == "float64":
        _check_precision(untouched.double(), images.double())
    _check_range(model, images)
    return trace.data_dependent


def check_mode(module: nn.Module) -> None:
    """Refuse training mode.

    Raises:
        InputError: the module, or one inside it, is in it.
    """
    for name, each in module.named_modules():
        if each.training:
            raise InputError(
                f"expected a module in eval mode, got {name or type(each).__name__} in training mode: call eval()"
            )


def _learn(model: AdaptedModule, images: Tensor) -> None:
    """Set the model's facts, and check its answers."""
    with torch.no_grad():
        if "encode" in model.methods:
            codes = _codes(model, images)
            _learn_latents(model, codes, images)
        for name in model.methods:
            if name != "encode":
                _check_answer(model, name, images, _answer(model, name, images))


def _answer(model: AdaptedModule, name: MethodName, images: Tensor) -> Tensor:
    """What a method gives, with exceptions of the module's in a line."""
    levels = [] if model.noise_level is None else [images.new_full((len(images),), sum(model.noise_level[:2]) / 2)]
    try:
        if name == "decode":
            return model.decode(model.encode(images)[0])
        if name == "denoise":
            return model.denoise(images, *levels)
        if name in {"classify", "detect"}:
            return (model.scores if name == "classify" else model.detect)(images)
        return model.encode(images)[0] if name == "encode" else model.reconstruct(images)
    except InputError:
        raise
    except Exception as error:
        kind = str(images.dtype).removeprefix("torch.")
        raise InputError(
            f"{name}: the module failed on {kind} images {tuple(images.shape)} in N, C, H, W: {in_a_line(error)}"
        ) from error


def _codes(model: AdaptedModule, images: Tensor) -> Codes:
    _answer(model, "encode", images)
    latents, *rest = model.encode(images)
    return Codes(latents, rest[0] if rest else None)


def _learn_latents(model: AdaptedModule, codes: Codes, images: Tensor) -> None:
    latents = codes.latents
    if latents.ndim not in {2, _SPATIAL_RANK} or len(latents) != len(images) or not latents.is_floating_point():
        raise InputError(f"encode: expected latents (N, D) or (N, c, h, w) of floats, got {_shown(latents)}")
    if codes.log_variances is not None and codes.log_variances.shape != latents.shape:
        got = f"{_shown(codes.log_variances)} beside {_shown(latents)}"
        raise InputError(f"encode: expected log-variances of the latents' shape as the second tensor, got {got}")
    model.variational = codes.log_variances is not None
    if latents.ndim == 2:  # noqa: PLR2004 ((N, D))
        _agree(model, "latent_size", latents.shape[1])
        if not model.image_shape[0] and "decode" in model.methods:
            raise InputError(
                "decode: expected spatial latents (N, c, h, w) of a module that takes any size, got vectors"
            )
        return
    channels, *size = latents.shape[1:]
    if model.image_shape[0]:
        model.latent_shape = (*size, channels)
        return
    ratios = {pixels / cells for pixels, cells in zip(images.shape[2:], size, strict=True)}
    ratio = ratios.pop()
    if ratios or not ratio.is_integer():
        got = f"{_shown(latents)} of images {tuple(images.shape)}"
        raise InputError(f"encode: expected latents of one whole ratio to height and width, got {got}: give --multiple")
    _agree(model, "downsampling", int(ratio))
    model.latent_shape = (0, 0, channels)


def _agree(model: AdaptedModule, fact: str, found: int) -> None:
    """Set a fact, which must be the same at every size of images."""
    known = getattr(model, fact)
    if known not in {0, found}:
        raise InputError(f"encode: expected the same {fact} at every size of images, got {known} and {found}")
    setattr(model, fact, found)


def _check_answer(model: AdaptedModule, name: MethodName, images: Tensor, answer: object) -> None:
    if not isinstance(answer, Tensor) or not answer.is_floating_point():
        raise InputError(f"{name}: expected a tensor of floats, got {_shown(answer)}")
    shapes = {"classify": (len(images), len(model.labels)), "detect": (len(images), 1, *images.shape[2:])}
    expected = shapes.get(name, tuple(images.shape))
    if tuple(answer.shape) != expected:
        advice = ": give --labels, a name for each class" if name == "classify" else ""
        raise InputError(f"{name}: expected the shape {expected}, got {tuple(answer.shape)}{advice}")
    if not bool(answer.isfinite().all()):
        raise InputError(f"{name}: expected finite numbers of the reference images, got NaN or infinity")
    if name == "detect" and bool((answer < 0).any()):
        got = f"{float(answer.min()):.3g}"
        raise InputError(f"detect: expected maps of numbers from 0, larger where stranger, got {got}")
    if name == "classify" and torch.allclose(answer.sum(1), torch.ones(len(answer))) and bool((answer >= 0).all()):
        raise InputError("classify: expected scores before the softmax, got rows that sum to 1: leave it out")


@torch.no_grad()
def _check_range(model: AdaptedModule, images: Tensor) -> None:
    for name in model.methods:
        if name not in _IMAGE_METHODS:
            continue
        answer = _answer(model, name, images)
        if _outside(answer) > _MOST_OUTSIDE:
            ends = f"{float(answer.min()):.3g} … {float(answer.max()):.3g}"
            raise InputError(
                f"{name}: expected images in 0 … 1, got {_outside(answer):.0%} of the pixels outside, in {ends}: "
                "give the module's own range, as in --range -1:1, or end in a sigmoid"
            )


def _outside(images: Tensor) -> float:
    return float(((images < -_SLACK) | (images > 1 + _SLACK)).double().mean())


def _traced(model: AdaptedModule, images: Tensor) -> Trace:
    return traced(model, lambda: [_answer(model, name, images) for name in model.methods])


def _check_precision(model: AdaptedModule, images: Tensor) -> None:
    """No operation of a module in float64 computes with fewer bits."""
    advice = "register constants as buffers, which follow .double(), or give --reference-precision float32"
    try:
        imprecise = _traced(model, images).imprecise
    except InputError as error:
        raise InputError(f"{error}: {advice}") from error
    if imprecise is not None:
        raise InputError(f"expected a module that computes in float64, got float32 from {named(imprecise)}: {advice}")


def _check_state(model: AdaptedModule, images: Tensor) -> None:
    """The same answers to the same images with others in between, and the same tensors afterwards."""
    others = 1 - images.flip(0)
    before = {name: tensor.clone() for name, tensor in _tensors(model)}
    with torch.no_grad():
        for name in model.methods:
            first = _answer(model, name, images)
            _answer(model, name, others)
            if not torch.equal(first, _answer(model, name, images)):
                raise InputError(
                    f"{name}: expected the same answer to the same images, got another: it keeps state, or draws"
                )
    for name, tensor in _tensors(model):
        if name not in before or not torch.equal(before[name], tensor):
            where = name.removeprefix("module.")
            raise InputError(f"expected a module that keeps no state between calls, got another {where} after a call")


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _wider(images: Tensor, multiple: int) -> Tensor:
    """The same images one multiple wider."""
    return torch.cat([images, images[..., -multiple:]], 3)


def named(operation: Operation) -> str:
    """An operation in words, its path that inside the user's module."""
    return str(replace(operation, module=operation.module.removeprefix("module").removeprefix(".")))


def _shown(answer: object) -> str:
    if isinstance(answer, Tensor):
        return f"{tuple(answer.shape)} of {str(answer.dtype).removeprefix('torch.')}"
    if isinstance(answer, Sequence) and not isinstance(answer, str):
        return f"{len(answer)} things"
    return type(answer).__name__
