"""The zoo: twenty architectures and the verdict expected of the gate for each, written down before the first run."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from tests.export.zoo import autoencoders, denoisers

TILED, WHOLE, FIXED = "served in tiles", "served whole", "served at one size"


@dataclass(frozen=True)
class Specimen:
    """One architecture."""

    name: str
    build: Callable[[], nn.Module]
    expected: str
    """A verdict, or a word of the reason for which it is refused."""
    channels: int = 3
    side: int = 0
    """Of its one size of images; 0 where height and width are free."""
    multiple: int = 1
    method: str = ""
    """What its `forward` does; empty where its methods have names of their own."""
    noise_level: tuple[float, float] | None = None

    @property
    def refused(self) -> bool:
        """Whether it is expected not to pass."""
        return self.expected not in {TILED, WHOLE, FIXED}


SPECIMENS = (
    Specimen("unet", denoisers.UNet, TILED, channels=1, multiple=4, method="denoise"),
    Specimen("dncnn", denoisers.DnCnn, TILED, channels=1, method="denoise"),
    Specimen("ffdnet", denoisers.FfdNet, TILED, channels=1, multiple=2, noise_level=(0.0, 0.3)),
    Specimen("taesd", autoencoders.Taesd, TILED, multiple=2),
    Specimen("resnet-vae", autoencoders.ResNetVae, TILED, multiple=2),
    Specimen("beta-tc-vae", autoencoders.BetaTcVae, FIXED, channels=1, side=32),
    Specimen("vq-vae", autoencoders.VqVae, TILED, multiple=2),
    Specimen("mae", autoencoders.MaskedAutoencoder, FIXED, side=32),
    Specimen("dense", autoencoders.Dense, FIXED, channels=1, side=28),
    Specimen("strided", autoencoders.Strided, TILED, multiple=4),
    Specimen("group-norm", autoencoders.GroupNormed, WHOLE, multiple=2),
    Specimen("batch-norm", autoencoders.BatchNormed, TILED, multiple=2),
    Specimen("weight-norm", denoisers.WeightNormed, TILED, channels=1, method="denoise"),
    Specimen("pixel-shuffle", denoisers.PixelShuffled, TILED, channels=1, multiple=2, method="denoise"),
    Specimen("bilinear", denoisers.Bilinear, TILED, channels=1, multiple=2, method="denoise"),
    Specimen("attention", autoencoders.Attention, WHOLE, multiple=4),
    Specimen("silu-gelu", denoisers.Activations, TILED, channels=1, method="denoise"),
    Specimen("dilated", denoisers.Dilated, TILED, channels=1, method="denoise"),
    # It reads sizes, so that no reach can be derived.
    Specimen("padding-unet", denoisers.PaddingUNet, WHOLE, channels=1, method="denoise"),
    Specimen("float32-constant", denoisers.Float32Constant, "float32", channels=1, method="denoise"),
)
