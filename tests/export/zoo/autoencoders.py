"""Autoencoders after published recipes, as their users write them: NCHW floats in 0 … 1, logits inside."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Dense(nn.Module):
    """Hinton and Salakhutdinov 2006, in small."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 64), nn.ReLU(), nn.Linear(64, 8))
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 28 * 28), nn.Sigmoid())

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents).reshape(-1, 1, 28, 28)


class Strided(nn.Module):
    """Strided convolutions down, transposed ones up, a spatial code."""

    def __init__(self, width: int = 8, code: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, code, 3, stride=2, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(code, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)


class Taesd(nn.Module):
    """TAESD (madebyollin, 2023), in small: residual blocks, a clamped code, nearest upsampling."""

    def __init__(self, width: int = 8, code: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            Block(width),
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            Block(width),
            nn.Conv2d(width, code, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(code, width, 3, padding=1),
            nn.ReLU(),
            Block(width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            Block(width),
            nn.Conv2d(width, 3, 3, padding=1),
        )

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(torch.tanh(latents / 3) * 3).clamp(0, 1)


class ResNetVae(nn.Module):
    """A residual VAE with a spatial code: the encoder returns means and log variances."""

    def __init__(self, width: int = 8, code: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1), Block(width), nn.Conv2d(width, 2 * code, 3, padding=1)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(code, width, 3, padding=1),
            Block(width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, 3, 3, padding=1),
            nn.Sigmoid(),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        means, log_variances = self.encoder(images).chunk(2, dim=1)
        return means, log_variances.clamp(-10, 10)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)


class BetaTcVae(nn.Module):
    """Chen et al. 2018, section C: four strided convolutions, a code of 10, transposed convolutions."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * 16, 20),
        )
        self.widened = nn.Linear(10, width * 16)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )
        self.width = width

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        means, log_variances = self.encoder(images).split(10, dim=1)
        return means, log_variances.clamp(-10, 10)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(torch.relu(self.widened(latents)).reshape(-1, self.width, 4, 4))


class VqVae(nn.Module):
    """Van den Oord et al. 2017: each position of the code takes the nearest of 32 vectors."""

    def __init__(self, width: int = 8, code: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(width, code, 3, padding=1)
        )
        self.codebook = nn.Parameter(torch.randn(32, code))
        self.decoder = nn.Sequential(
            nn.Conv2d(code, width, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def reconstruct(self, images: Tensor) -> Tensor:
        code = self.encoder(images).permute(0, 2, 3, 1)
        distances = (code**2).sum(-1, keepdim=True) - 2 * code @ self.codebook.T + (self.codebook**2).sum(-1)
        nearest = functional.embedding(distances.argmin(-1), self.codebook)
        return self.decoder(nearest.permute(0, 3, 1, 2))


class MaskedAutoencoder(nn.Module):
    """He et al. 2022, in small: 32 x 32 in patches of 8, three in four masked by a mask that is a buffer."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.places = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.missing = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.register_buffer("mask", (torch.arange(16) % 4 == 0).reshape(1, 16, 1))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(width, 8 * 8 * 3)

    def reconstruct(self, images: Tensor) -> Tensor:
        seen = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.where(self.mask, seen, self.missing) + self.places
        pixels = self.last(self.body(tokens)).reshape(-1, 4, 4, 8, 8, 3)
        return torch.sigmoid(pixels.permute(0, 5, 1, 3, 2, 4).reshape(-1, 3, 32, 32))


class GroupNormed(nn.Module):
    """Group normalisation (Wu and He 2018), which looks at the whole image."""

    def __init__(self, width: int = 8, code: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1), nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, code, 1)
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(code, width, 2, stride=2), nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, 3, 1)
        )

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(latents))


class BatchNormed(nn.Module):
    """Batch normalisation with running statistics, in eval mode."""

    def __init__(self, width: int = 8, code: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, code, 1)
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(code, width, 2, stride=2), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 3, 1)
        )

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def decode(self, latents: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(latents))


class Attention(nn.Module):
    """Self-attention over the positions of the code, as in latent diffusion's autoencoder (Rombach et al. 2022)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, width, 4, stride=4)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.decoder = nn.ConvTranspose2d(width, 3, 4, stride=4)

    def reconstruct(self, images: Tensor) -> Tensor:
        code = self.encoder(images)
        rows, width, tall, wide = code.shape
        tokens = code.flatten(2).transpose(1, 2)
        mixed = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return torch.sigmoid(self.decoder(mixed.transpose(1, 2).reshape(rows, width, tall, wide)))


class Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.relu(hidden + self.body(hidden))
