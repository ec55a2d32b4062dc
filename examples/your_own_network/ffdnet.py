"""FFDNet (Zhang, Zuo and Zhang 2018, arXiv 1710.04026), a denoiser that is given the noise level, as a plain module."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class FFDNet(nn.Module):
    """Convolutions at half resolution, between `pixel_unshuffle` and `pixel_shuffle`.

    15 of width 64 for grey images, 12 of width 96 for colour.
    """

    def __init__(self, channels: int = 1, depth: int = 15, width: int = 64) -> None:
        super().__init__()
        sizes = [4 * channels + 1, *[width] * (depth - 1), 4 * channels]
        self.depth = depth
        for index, (before, after) in enumerate(pairwise(sizes)):
            self.add_module(f"conv{index}", nn.Conv2d(before, after, 3, padding=1))

    def denoise(self, images: Tensor, noise_levels: Tensor) -> Tensor:
        """(N, C, H, W), height and width even, and standard deviations (N,) to (N, C, H, W)."""
        features = functional.pixel_unshuffle(images, 2)
        levels = noise_levels.view(-1, 1, 1, 1).expand(-1, 1, *features.shape[2:])
        features = torch.cat([features, levels], 1)
        for index in range(self.depth):
            features = self.get_submodule(f"conv{index}")(features)
            if index < self.depth - 1:
                features = features.relu()
        return functional.pixel_shuffle(features, 2)
