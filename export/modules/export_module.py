"""Exports a PyTorch module of one's own to a version in a model repository, through the gate."""

import copy
import hashlib
import pickle
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from bundle.detection import HeldOutScores, Score
from export import exporter, reference_images
from export.errors import Failure, GateError, InputError
from export.exporter import Exported
from export.gate.sandbox import Sandbox
from export.graphs import build, methods
from export.modules import statistics, weights
from export.modules.adapter import AdaptedModule, MethodName, Precision, Scaling, methods_of
from export.modules.probe import check_mode, named, probe
from export.modules.source import in_a_line
from export.modules.trace import Operation
from export.publication.calibration import held_out_scores
from export.publication.publish import Place
from export.reference_images import Images, Reference
from training.checkpoint import Checkpoint
from training.data.split import Split
from training.errors import UnavailableError

Source: TypeAlias = Path | str | NDArray[Any]

_PLAIN = Scaling()
_PROBED_IMAGES = 3
_ANY_SIZE = "resize them, or give --image-shape free for a module that takes any size"
# The gate's own, apart from statistics: as many as a checkpoint keeps.
_GATE_IMAGES = 1_024
_GATE_NUMBERS = 2**24


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What a module does not say of itself."""

    forward_is: MethodName | None = None
    """The method that `forward` is, for a module without methods of these names."""
    image_shape: tuple[int, int, int] | Literal["free"] | None = None
    """(H, W, C), or free height and width; by default the size of the reference images."""
    multiple: int = 1
    """Of free sizes: images are padded to a multiple of it."""
    minimum: int = 1
    """Of free sizes: the smallest height and width."""
    scaling: Scaling = _PLAIN
    """The pixels that the module was trained on; by default 0 … 1."""
    noise_level: tuple[float, float, float] | None = None
    """Lowest, highest and default (0: none) standard deviation, in pixel values of 0 … 1, that `denoise` takes (N,)."""
    labels: tuple[str, ...] = ()
    """Names of the classes of `classify`."""
    detection_score: Score | None = None
    """How an image's score comes from the map of `detect`: max, as it is by default, or mean."""
    reference_precision: Precision = "float64"
    """What the graphs are compared with. float32 is a weaker claim, for a module that cannot be computed in float64."""
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])
    """Recorded in model.json; by default the module's class."""


def export_module(
    module: nn.Module,
    reference: Source | Sequence[Source],
    place: Place,
    declared: Declaration = Declaration(),
    say: Callable[[str], None] = print,
) -> Exported:
    """Export a module that has some of the methods encode, decode, reconstruct, denoise, classify and detect.

    The methods take images (N, C, H, W) float32 in 0 … 1, unless `declared.scaling` says otherwise, and give images
    of that shape and range, latents (N, D) or (N, c, h, w), with log-variances as a second tensor, scores (N, K), or
    maps (N, 1, H, W) from 0. Thresholds of `detect` are calibrated on the reference images, which must then be normal
    ones that the module was not trained on. `reference` is what the module is judged on: folders of images, image
    files, .npz or .npy files, or arrays (N, H, W, C). The module is left as it is.

    Raises:
        InputError: the module, reference images, declaration or place is unusable.
        GateError: a check refused; nothing was written.
        ExportError: the repository could not be written.
    """
    start = perf_counter()
    place.check()
    check_mode(module)
    weights.check_finite(module, type(module).__name__)
    model = AdaptedModule(
        unhooked(module),
        methods_of(module, declared.forward_is),
        forward_is=declared.forward_is,
        scaling=declared.scaling,
        reference_precision=declared.reference_precision,
        detection_score=declared.detection_score or "max",
    ).eval()
    found = _in_channels(reference_images.read(_sources(reference)), declared)
    images = _declare(model, declared, found)
    data_dependent = probe(model, statistics.as_pixels(images[:_PROBED_IMAGES]))
    _check_picklable(model)
    # Squares that are cut out of images of any size have no classes.
    classes = [] if declared.image_shape == "free" else [each.label for each in found]
    checkpoint = _checkpoint(model, images, classes, declared, str(place.name), say)
    if "detect" in model.methods:
        checkpoint = replace(checkpoint, held_out_scores=_held_out_scores(model, found))
        say(f"detect: thresholds are those of {len(found)} reference images, taken for normal and not trained on")
    say(f"{place.name}: building and checking {', '.join(model.methods)} of {type(module).__name__}")
    with Sandbox() as sandbox, _explained(data_dependent):
        draft, result = exporter.build_and_check(checkpoint, weights.sha256(model.module), "float32", "cpu", sandbox)
    return exporter.write(draft, result, place, perf_counter() - start)


def unhooked(module: nn.Module) -> nn.Module:
    """A copy, its weight and spectral norms of the old kind computed once and for all."""
    normed = [
        (each, hook)
        for each in module.modules()
        for hook in _hooks(each)
        if isinstance(hook, WeightNorm | SpectralNorm)
    ]
    with torch.no_grad():
        # A weight that was computed with gradients cannot be copied.
        for each, hook in normed:
            hook(each, None)
    copied = copy.deepcopy(module).requires_grad_(requires_grad=False)
    for each in copied.modules():
        for hook in _hooks(each):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(each, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(each, hook.name)
    return copied.requires_grad_(requires_grad=False)


def _hooks(module: nn.Module) -> list[Any]:
    # torch has no other way to see them.
    return [*cast("Any", module)._forward_pre_hooks.values()]  # noqa: SLF001


def _declare(model: AdaptedModule, declared: Declaration, found: list[Reference]) -> Images:
    """Set what a module does not say of itself; reference images (N, H, W, C) that fit it.

    Raises:
        InputError: the declaration contradicts itself, the module or the images.
    """
    channels = found[0].pixels.shape[2]
    declared.scaling.check(channels)
    if declared.noise_level is not None and len(set(declared.scaling.std)) > 1:
        raise InputError("expected one std for all channels of a module that takes noise levels, got several")
    if declared.noise_level is not None and "denoise" not in model.methods:
        raise InputError(f"expected no noise level for {', '.join(model.methods)}: only denoise takes one")
    if declared.labels and "classify" not in model.methods:
        raise InputError(f"expected no labels for {', '.join(model.methods)}: only classify has classes")
    if declared.detection_score and "detect" not in model.methods:
        raise InputError(f"expected no detection score for {', '.join(model.methods)}: only detect has one")
    model.labels, model.noise_level = declared.labels, declared.noise_level
    if declared.image_shape == "free":
        model.image_shape, model.multiple, model.minimum = (0, 0, channels), declared.multiple, declared.minimum
        return reference_images.crops(found, declared.multiple, declared.minimum)
    if (declared.multiple, declared.minimum) != (1, 1):
        raise InputError("expected --multiple and --minimum with --image-shape free alone: a fixed size is not padded")
    size = None if declared.image_shape is None else declared.image_shape[:2]
    images = reference_images.of_one_size(found, size, _ANY_SIZE)
    model.image_shape = (images.shape[1], images.shape[2], channels)
    return images


def _sources(reference: Source | Sequence[Source]) -> list[Path | NDArray[Any]]:
    given = [reference] if isinstance(reference, Path | str | np.ndarray) else reference
    return [Path(each) if isinstance(each, str) else each for each in given]


def _in_channels(found: list[Reference], declared: Declaration) -> list[Reference]:
    """Images in the declared number of channels: grey ones may stand for colour, colour never for grey."""
    if not isinstance(declared.image_shape, tuple):
        return found
    expected, got = declared.image_shape[2], found[0].pixels.shape[2]
    if expected < got:
        raise InputError("expected grey reference images, got colours: convert them, or declare 3 channels")
    return [replace(each, pixels=np.repeat(each.pixels, expected // got, 2)) for each in found]


def _checkpoint(
    model: AdaptedModule,
    images: Images,
    classes: Sequence[str],
    declared: Declaration,
    name: str,
    say: Callable[[str], None],
) -> Checkpoint:
    """A module as the exporter knows a network that training has written."""
    most = max(1, min(_GATE_IMAGES, _GATE_NUMBERS // images[0].size))
    chosen = images if len(images) <= most else images[np.linspace(0, len(images) - 1, most).astype(int)]
    try:
        latents = statistics.fit(model, images, classes)
    except UnavailableError as error:
        latents = None
        say(f"no statistics of latents, so drift will not be measured: {error}")
    kind = type(model.module)
    meta = {
        "name": name,
        "module": f"{kind.__module__}:{kind.__qualname__}",
        "reference_precision": model.reference_precision,
        "data": {"sha256": hashlib.sha256(images.tobytes()).hexdigest()},
        **declared.provenance,
    }
    return Checkpoint(cast("Any", model), meta, Split(chosen, None), latents)


def _held_out_scores(model: AdaptedModule, found: Sequence[Reference]) -> HeldOutScores:
    """Of the whole reference images.

    Raises:
        InputError: too few, or of several sizes.
    """

    @torch.no_grad()
    def detect(images: Images) -> NDArray[np.float32]:
        return model.detect(statistics.as_pixels(images)).movedim(1, -1).numpy()

    images = [each.pixels for each in found]
    return held_out_scores(images, methods.facts(model).shapes, model.detection_score, detect)


def _check_picklable(model: AdaptedModule) -> None:
    """Refuse a module that a second process, which exports it once more, cannot be sent.

    Raises:
        InputError: its class is not one that can be imported, or it holds what cannot be copied.
    """
    try:
        # As it is sent: torch cannot pickle parametrisations, such as weight norm.
        pickle.dumps(build.folded(model))
    except Exception as error:
        raise InputError(
            f"expected a module that another process can be sent, got {in_a_line(error)}: define its class at the top "
            "of an importable file"
        ) from error


@contextmanager
def _explained(operation: Operation | None) -> Generator[None]:
    """Say what made the exporter refuse a graph, where that is known."""
    try:
        yield
    except GateError as error:
        if error.check != "structure" or operation is None or "the exporter refused" not in str(error):
            raise
        why = f"the module decides by its input's values, by {named(operation)}: torch.where decides inside a graph"
        raise GateError(error.check, [Failure(each.signature, each.where, why) for each in error.failures]) from error
