"""Modules as users write them, each with one property that export must see."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

SIDE = 8


class Denoiser(nn.Module):
    """One convolution beside a shortcut."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.Tanh())

    def denoise(self, images: Tensor) -> Tensor:
        return images - 0.1 * self.body(images)


class Callable(Denoiser):
    """With nothing but a forward."""

    denoise = None

    def forward(self, images: Tensor) -> Tensor:
        return images - 0.1 * self.body(images)


class NoiseLevel(Denoiser):
    """Takes noise levels."""

    def denoise(self, images: Tensor, noise_levels: Tensor) -> Tensor:
        return images - 0.1 * self.body(images - noise_levels.view(-1, 1, 1, 1))


class SingleConstant(nn.Module):
    """Multiplies by a float32 constant that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.tensor([0.9])

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale


class WithConstant(nn.Module):
    """Has such a module inside."""

    def __init__(self) -> None:
        super().__init__()
        self.constant = SingleConstant()

    def denoise(self, images: Tensor) -> Tensor:
        return self.constant(images)


class Detector(Denoiser):
    """Shows where the convolution changes an image."""

    denoise = None

    def detect(self, images: Tensor) -> Tensor:
        return (0.1 * self.body(images)).square().mean(1, keepdim=True)


class SignedDetector(Detector):
    """With maps of both signs."""

    def detect(self, images: Tensor) -> Tensor:
        maps = self.body(images).mean(1, keepdim=True)
        return maps - maps.mean((2, 3), keepdim=True)


class ScoresAlone(Detector):
    """Without maps."""

    def detect(self, images: Tensor) -> Tensor:
        return super().detect(images).mean((1, 2, 3))


class Random(Denoiser):
    """Adds noise."""

    def denoise(self, images: Tensor) -> Tensor:
        return super().denoise(images) + 0.01 * torch.randn_like(images)


class StubbornDropout(Denoiser):
    """Drops out in eval mode too."""

    def denoise(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(super().denoise(images), 0.01, training=True)


class NumpyRandom(Denoiser):
    """Draws where no trace of torch's sees it."""

    def denoise(self, images: Tensor) -> Tensor:
        return super().denoise(images) + float(np.random.default_rng().random()) / 100


class Counting(Denoiser):
    """Counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def denoise(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().denoise(images)


class Remembering(Denoiser):
    """Adds a part of what it saw last."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def denoise(self, images: Tensor) -> Tensor:
        answer = super().denoise(images) + (0 if self.last is None else 0.1 * self.last)
        self.last = images
        return answer


class Branching(Denoiser):
    """Decides by the pixels."""

    def denoise(self, images: Tensor) -> Tensor:
        return super().denoise(images) if images.mean() > 0.5 else images


class Smaller(Denoiser):
    """Gives smaller images."""

    def denoise(self, images: Tensor) -> Tensor:
        return super().denoise(images)[..., 1:]


class Unbounded(Denoiser):
    """Gives pixels in -1 … 1."""

    def denoise(self, images: Tensor) -> Tensor:
        return 2 * super().denoise(images) - 1


class ThreeOutputs(nn.Module):
    """Gives one more than latents and log-variances."""

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat = images.flatten(1)
        return flat, flat, flat


class Spatial(nn.Module):
    """A variational autoencoder with a code of half the resolution, for any even size."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(1, 4, 2, stride=2)
        self.decoder = nn.ConvTranspose2d(2, 1, 2, stride=2)

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.encoder(images).chunk(2, 1)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents).sigmoid()


class Dense(nn.Module):
    """A plain autoencoder of five numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 5))
        self.decoder = nn.Sequential(nn.Linear(5, SIDE * SIDE), nn.Sigmoid(), nn.Unflatten(1, (1, SIDE, SIDE)))

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)


class Classifier(nn.Module):
    """Scores of three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 3))

    def classify(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Softmax(Classifier):
    """Probabilities of three classes."""

    def classify(self, images: Tensor) -> Tensor:
        return super().classify(images).softmax(1)


class OldNorms(nn.Module):
    """Weight and spectral norms by the hooks of before torch 2."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.utils.weight_norm(nn.Conv2d(1, 4, 3, padding=1))
        self.second = nn.utils.spectral_norm(nn.Conv2d(4, 1, 3, padding=1))

    def denoise(self, images: Tensor) -> Tensor:
        return self.second(self.first(images)).sigmoid()


def images(count: int = 6, side: int = SIDE, channels: int = 1) -> np.ndarray:
    """(N, side, side, C) uint8 noise."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8)


def save(module: nn.Module, file: Path) -> Path:
    torch.save(module.state_dict(), file)
    return file
