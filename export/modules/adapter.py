"""Adapter: a PyTorch module of the user's own as a network that the exporter and the gate know.

It scales pixels of 0 … 1 to the range that the module was trained on, and its images back.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from bundle.detection import Score
from bundle.latents import OWN_MODULE
from export.errors import InputError
from export.graphs.scaling import PLAIN, Scaling
from training.models.autoencoders import LOG_VARIANCE_BOUNDS

MethodName: TypeAlias = Literal["encode", "decode", "reconstruct", "denoise", "classify", "detect"]
Precision: TypeAlias = Literal["float64", "float32"]
ImageShape: TypeAlias = tuple[int, int, int]

METHODS: tuple[MethodName, ...] = get_args(MethodName)


class AdaptedModule(nn.Module):
    """A module with the facts that a bundle states of it. Images are (N, C, H, W), latents (N, D) or (N, c, h, w)."""

    _mean: Tensor
    _std: Tensor
    _minus_mean: Tensor
    family = OWN_MODULE
    output = "pixels"
    float_images = True

    def __init__(
        self,
        module: nn.Module,
        methods: Sequence[MethodName],
        *,
        forward_is: MethodName | None = None,
        scaling: Scaling = PLAIN,
        reference_precision: Precision = "float64",
        detection_score: Score = "max",
    ) -> None:
        super().__init__()
        self.module = module
        self.methods = tuple(methods)
        self._forward_is = forward_is
        self.reference_precision: Precision = reference_precision
        self._scales = scaling.changes
        self.register_buffer("_mean", torch.tensor(scaling.mean, dtype=torch.float64).float().view(1, -1, 1, 1))
        self.register_buffer("_std", torch.tensor(scaling.std, dtype=torch.float64).float().view(1, -1, 1, 1))
        self.register_buffer("_minus_mean", -self._mean)
        self.detection_score: Score = detection_score
        self.variational = False
        self.image_shape: ImageShape = (0, 0, 0)
        self.latent_shape: tuple[int, ...] = ()
        self.latent_size = 0
        self.downsampling = 0
        self.multiple = 1
        self.minimum = 1
        self.labels: tuple[str, ...] = ()
        self.noise_level: tuple[float, float, float] | None = None

    def call(self, method: MethodName, *given: Tensor) -> Any:  # noqa: ANN401 (what the user's own code returns)
        """Call the module's method, or the module itself where it was said to be that method."""
        called = self.module if method == self._forward_is else getattr(self.module, method)
        return called(*given)

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(N, C, H, W) to latents, and log-variances where the module gives two tensors; these are bounded."""
        answer = self.call("encode", self._scaled(pixels))
        given = cast("tuple[Any, ...]", tuple(answer) if isinstance(answer, tuple | list) else (answer,))
        if len(given) not in {1, 2} or not all(isinstance(each, Tensor) for each in given):
            kinds = ", ".join(type(each).__name__ for each in given)
            raise InputError(f"encode: expected latents, and perhaps log-variances, as one tensor or two, got {kinds}")
        return given[0], *(each.clamp(*LOG_VARIANCE_BOUNDS) for each in given[1:])

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to (N, C, H, W)."""
        return self._unscaled(self.call("decode", latents))

    def reconstruct(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) to the same, by the module's own method or by its encoder and decoder."""
        if "encode" in self.methods and "decode" in self.methods:
            return self.decode(self.encode(pixels)[0])
        return self._unscaled(self.call("reconstruct", self._scaled(pixels)))

    def denoise(self, pixels: Tensor, noise_levels: Tensor | None = None) -> Tensor:
        """(N, C, H, W), and standard deviations (N,) where the module takes them, to (N, C, H, W)."""
        levels = () if noise_levels is None else (self._scaled_levels(noise_levels),)
        return self._unscaled(self.call("denoise", self._scaled(pixels), *levels))

    def scores(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, K)."""
        return self.call("classify", self._scaled(pixels))

    def detect(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) to maps (N, 1, H, W) of how strange each place is."""
        return self.call("detect", self._scaled(pixels))

    def _scaled(self, pixels: Tensor) -> Tensor:
        return (pixels - self._mean) / self._std if self._scales else pixels

    def _unscaled(self, images: Tensor) -> Tensor:
        # A subtraction, as it was when the control of tiles knew no other: graphs keep their bytes.
        return images * self._std - self._minus_mean if self._scales else images

    def _scaled_levels(self, levels: Tensor) -> Tensor:
        return levels / self._std.flatten()[0] if self._scales else levels


def methods_of(module: nn.Module, forward_is: MethodName | None) -> tuple[MethodName, ...]:
    """Methods that a module has, those that follow from others included.

    Raises:
        InputError: none.
    """
    if forward_is is not None:
        return (forward_is,)
    found: list[MethodName] = [name for name in METHODS if callable(getattr(module, name, None))]
    if not found:
        kind = type(module).__name__
        raise InputError(
            f"expected a module with some of the methods {', '.join(METHODS)}, got {kind} without any: add one, or say "
            "which of them its forward is, as in --as denoise"
        )
    if "encode" in found and "decode" in found and "reconstruct" not in found:
        found.append("reconstruct")
    if "decode" in found and "encode" not in found:
        raise InputError(
            "expected encode beside decode: the latents of the reference images are what decode is tested on"
        )
    return tuple(found)
