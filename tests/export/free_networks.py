"""Small fully convolutional networks of free height and width: what can be tiled, and what cannot."""

import torch
from networks import Network
from torch import Tensor, nn
from torch.nn import functional


class FreeNetwork(Network):
    """Base of all of them."""

    family = "denoiser"
    output = "pixels"
    float_images = True
    multiple = 1

    def __init__(self, channels: int = 1) -> None:
        super().__init__((0, 0, channels))


class FreeDenoiser(FreeNetwork):
    """Convolutions at half resolution, the noise level a plane of its own (after Zhang et al. 2018, FFDNet)."""

    multiple = 2
    noise_level = (0.0, 0.25, 0.1)

    def __init__(self, channels: int = 1, width: int = 8, depth: int = 3) -> None:
        super().__init__(channels)
        folded = 4 * channels
        middle = [layer for _ in range(depth) for layer in (nn.Conv2d(width, width, 3, padding=1), nn.ReLU())]
        first, last = nn.Conv2d(folded + 1, width, 3, padding=1), nn.Conv2d(width, folded, 3, padding=1)
        self.layers = nn.Sequential(first, nn.ReLU(), *middle, last)

    def denoise(self, images: Tensor, noise_levels: Tensor) -> Tensor:
        folded = functional.pixel_unshuffle(images, 2)
        plane = noise_levels.view(-1, 1, 1, 1).expand(-1, 1, folded.shape[2], folded.shape[3])
        return images - functional.pixel_shuffle(self.layers(torch.cat([folded, plane], 1)), 2)


class FreeUNet(FreeNetwork):
    """Two halvings, nearest upsampling, a skip by concatenation and one by addition."""

    multiple = 4

    def __init__(self, channels: int = 1, width: int = 8) -> None:
        super().__init__(channels)
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.third = nn.Conv2d(width, width, 3, padding=1)
        self.fourth = nn.Conv2d(2 * width, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def denoise(self, images: Tensor) -> Tensor:
        one = self.first(images).relu()
        two = self.second(functional.max_pool2d(one, 2)).relu()
        three = self.third(functional.max_pool2d(two, 2)).relu()
        joined = torch.cat([functional.interpolate(three, scale_factor=2), two], 1)
        return self.last(functional.interpolate(self.fourth(joined).relu(), scale_factor=2) + one)


class FreeAutoencoder(FreeNetwork):
    """Strided convolutions to a spatial code, a quarter of the size; a VAE."""

    family = "vae"
    variational = True
    output = "logits"
    multiple = 4
    downsampling = 4
    latent_shape = (0, 0, 3)

    def __init__(self, channels: int = 3, width: int = 8) -> None:
        super().__init__(channels)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * self.latent_shape[2], 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(self.latent_shape[2], width, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(width, channels, 3, padding=1, padding_mode="reflect"),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        means, log_variances = self.encoder(images).chunk(2, dim=1)
        return means, log_variances.clamp(-14, 14)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)


class Attending(FreeNetwork):
    """With a mean over the whole image, so that every pixel depends on every other."""

    def __init__(self, channels: int = 1, width: int = 8) -> None:
        super().__init__(channels)
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def denoise(self, images: Tensor) -> Tensor:
        features = self.first(images)
        return self.last(features * features.mean(dim=(2, 3), keepdim=True).sigmoid())
