"""Which method of which network becomes which graph."""

from typing import Any

import torch
from torch import Tensor, nn

from export.graphs.tensor_specs import Facts


class Method(nn.Module):
    """One method of a network as a module of its own: scaling and layout inside, arrays as the wire has them.

    Images are (N, H, W, C), computed on in the network's precision, scaled and compared in float32 or better.
    """

    name = ""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 (any network with the methods of its family)
        super().__init__()
        self.model = model

    @property
    def precision(self) -> torch.dtype:
        """Of the network's weights."""
        return next(self.model.parameters()).dtype

    def pixels(self, images: Tensor) -> Tensor:
        """(N, H, W, C) uint8, or float in 0 … 1, to (N, C, H, W) in 0 … 1."""
        wide = images.permute(0, 3, 1, 2).to(torch.promote_types(self.precision, torch.float32))
        return wide / 255 if images.dtype == torch.uint8 else wide

    def widened(self, values: Tensor) -> Tensor:
        """Half precision to float32, anything else unchanged."""
        return values.to(torch.promote_types(values.dtype, torch.float32))

    def images(self, logits: Tensor) -> Tensor:
        """(N, C, H, W) logits to (N, C, H, W) in 0 … 1."""
        return self.widened(logits).sigmoid()

    def encoded(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(N, C, H, W) to latents (N, D), and log-variances (N, D) where there are any."""
        answer: Tensor | tuple[Tensor, ...] = self.model.encode(pixels.to(self.precision))
        return answer if isinstance(answer, tuple) else (answer,)


class Encode(Method):
    """Images to latents."""

    name = "encode"

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, H, W, C) uint8 to (N, D), once or twice."""
        return tuple(self.widened(each) for each in self.encoded(self.pixels(images)))


class Decode(Method):
    """Latents to images."""

    name = "decode"

    def forward(self, latents: Tensor) -> Tensor:
        """(N, D) to (N, H, W, C)."""
        return self.images(self.model.decode(latents.to(self.precision))).permute(0, 2, 3, 1)


class Reconstruct(Method):
    """Images through the bottleneck and back."""

    name = "reconstruct"

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, C) uint8 to (N, H, W, C) and the mean squared error per pixel (N,)."""
        pixels = self.pixels(images)
        reconstructions = self.images(self.model.decode(self.encoded(pixels)[0]))
        differences = reconstructions - pixels
        # Of the images, not of logarithms: finite wherever a sigmoid saturates, and the same in every batch.
        return reconstructions.permute(0, 2, 3, 1), (differences * differences).mean(dim=(1, 2, 3))


class Denoise(Method):
    """Noisy images to clean ones."""

    name = "denoise"

    def forward(self, images: Tensor) -> Tensor:
        """(N, H, W, C) in 0 … 1 to the same."""
        return self.images(self.model.denoise(self.pixels(images).to(self.precision))).permute(0, 2, 3, 1)


class Classify(Method):
    """Images to class probabilities."""

    name = "classify"

    def forward(self, images: Tensor) -> Tensor:
        """(N, H, W, C) uint8 to (N, K)."""
        return self.widened(self.model.classify(self.encoded(self.pixels(images))[0])).softmax(dim=1)


def facts(model: Any) -> Facts:  # noqa: ANN401 (any network of the five families)
    """Read them from a network."""
    return Facts(model.family, tuple(model.image_shape), model.latent_size, tuple(getattr(model, "labels", ())))


def methods(model: Any) -> list[Method]:  # noqa: ANN401 (likewise)
    """Modules to export, in alphabetical order of their names."""
    if model.family == "denoiser":
        return [Denoise(model)]
    classify: list[Method] = [Classify(model)] if model.family == "multitask" else []
    return [*classify, Decode(model), Encode(model), Reconstruct(model)]
