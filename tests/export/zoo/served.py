"""One specimen through the gate and over the wire: what came of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.model_pb2 import Model
from autoencoder.v1.shapes import Shapes, pad
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from torch import nn

from export.errors import GateError, InputError
from export.exporter import Exported
from export.modules import Declaration, export_module
from export.publication.publish import Place
from tests.export.zoo.specimens import FIXED, TILED, WHOLE, Specimen
from tests.server.conftest import Served, array, images, serving

Images = NDArray[np.float32]

SIDE = 64
# More than a tile in one direction, and no multiple of anything.
ASKED = (75, 301)
LEVEL = 0.1
_CROPS = 120
_DECODED_PIXELS = 32


@dataclass(frozen=True)
class Outcome:
    """What the gate and the server made of a specimen."""

    verdict: str
    """One of the three, or the words of a refusal."""
    seconds: float = 0.0
    """Of the gate, checks included."""
    halo: str = ""
    """In pixels, of each graph that is cut."""
    tile: str = ""
    max_abs_error: float = 0.0
    """The gate's, over all graphs and inputs."""
    tied: str = ""
    """Rows of an argmin that were left out of the comparison."""
    served_excess: dict[str, float] = field(default_factory=dict[str, float])
    """Of each answer of the server: its distance from the module as a multiple of what the tolerance allows."""

    def is_as_expected(self, specimen: Specimen) -> bool:
        """Whether the verdict is the expected one, and what was served is right."""
        if specimen.refused:
            return specimen.expected in self.verdict and not self.served_excess
        right = bool(self.served_excess) and max(self.served_excess.values()) <= 1
        return self.verdict == specimen.expected and right


def judge(specimen: Specimen, repository: Path) -> Outcome:
    """Export a specimen with random weights, serve it, and compare its answers with the module."""
    module = built(specimen)
    free = specimen.side == 0
    levels = None if specimen.noise_level is None else (*specimen.noise_level, LEVEL)
    declared = Declaration(
        forward_is=specimen.method or None,
        image_shape="free" if free else (specimen.side, specimen.side, specimen.channels),
        multiple=specimen.multiple,
        noise_level=levels,
    )
    reference = crops(specimen.channels, specimen.side or SIDE)
    try:
        exported = export_module(module, reference, Place(repository, specimen.name), declared, say=lambda _: None)
    except (InputError, GateError) as error:
        return Outcome(str(error))
    with serving(repository, poll_seconds=0) as served:
        excess = {method: _excess(served, specimen, method, exported.model) for method in methods(exported)}
    return Outcome(
        verdict(exported.model),
        exported.seconds,
        *_tiles(exported.model),
        max(each.max_abs_error for each in exported.result.measured.values()),
        ", ".join(f"{each.tied} of {each.choices}" for each in exported.result.measured.values() if each.choices),
        excess,
    )


def built(specimen: Specimen) -> nn.Module:
    """The architecture with random weights of a fixed seed, and running statistics as training would leave some."""
    torch.manual_seed(0)
    module = specimen.build()
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            nn.init.normal_(each.running_mean, std=0.1)
            nn.init.uniform_(each.running_var, 0.5, 1.5)
    if specimen.method == "denoise":
        _centre(module.eval(), crops(specimen.channels, SIDE, count=1))
    return module.eval()


@torch.no_grad()
def _centre(denoiser: nn.Module, photograph: NDArray[np.uint8]) -> None:
    """Set its last bias so that it gives images as bright as those it gets, as any trained one does."""
    given = torch.tensor(photograph).permute(0, 3, 1, 2) / 255
    bias = [each.bias for each in denoiser.modules() if isinstance(each, nn.Conv2d) and each.bias is not None][-1]
    before = denoiser(given).mean()
    bias += 1
    slope = denoiser(given).mean() - before
    bias += (given.mean() - before) / slope - 1


def crops(channels: int, side: int, wide: int = 0, count: int = _CROPS) -> NDArray[np.uint8]:
    """(N, side, side, channels) of scikit-learn's two photographs."""
    rng, found = np.random.default_rng(0), list[Any]()
    for number in range(count):
        photograph = load_sample_images().images[number % 2]
        top, left = (
            int(rng.integers(photograph.shape[0] - side)),
            int(rng.integers(photograph.shape[1] - (wide or side))),
        )
        found.append(photograph[top : top + side, left : left + (wide or side)])
    stacked = np.stack(found)
    return stacked if channels > 1 else stacked.mean(-1, keepdims=True).round().astype(np.uint8)


def methods(exported: Exported) -> list[str]:
    """Signatures, as methods of the module."""
    return [each.name for each in exported.model.signatures]


def verdict(model: Model) -> str:
    """What became of a model that was exported."""
    if model.height:
        return FIXED
    return TILED if all(each.HasField("tiling") for each in model.signatures) else WHOLE


def _tiles(model: Model) -> tuple[str, str]:
    cells = {each.name: model.downsampling if each.name == "decode" else 1 for each in model.signatures}
    cut = [each for each in model.signatures if each.HasField("tiling")]
    return tuple(
        ", ".join(dict.fromkeys(str(getattr(each.tiling, fact) * cells[each.name]) for each in cut))
        for fact in ("halo", "tile")
    )


def _excess(served: Served, specimen: Specimen, method: str, model: Model) -> float:
    size = ASKED if not specimen.side else (specimen.side, specimen.side)
    asked = crops(specimen.channels, *size, count=2).astype(np.float32) / np.float32(255)
    shapes = Shapes.of(model)
    found = _asked(served, specimen, method, asked)
    expected = _expected(specimen, method, pad(asked, shapes.padded(*size)))
    expected = expected[:, : found.shape[1], : found.shape[2]] if expected.ndim == found.ndim > 2 else expected
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(np.max(np.abs(found - expected) / (1e-5 + 1e-4 * np.abs(expected))))


def _asked(served: Served, specimen: Specimen, method: str, asked: Images) -> Images:
    """The server's answer."""
    stub, name, floats = served.stub, specimen.name, pb.IMAGE_FORMAT_FLOAT32
    if method == "encode":
        return array(stub.Encode(pb.EncodeRequest(model_name=name, images=images(asked))).latents)
    if method == "decode":
        latents = stub.Encode(pb.EncodeRequest(model_name=name, images=images(asked))).latents
        decoded = stub.Decode(pb.DecodeRequest(model_name=name, latents=latents, image_format=floats))
        return array(decoded.images.tensor)
    if method == "reconstruct":
        request = pb.ReconstructRequest(model_name=name, images=images(asked), image_format=floats)
        return array(stub.Reconstruct(request).images.tensor)
    levels = [] if specimen.noise_level is None else [LEVEL]
    request = pb.DenoiseRequest(model_name=name, images=images(asked), image_format=floats, noise_levels=levels)
    return array(stub.Denoise(request).images.tensor)


@torch.no_grad()
def _expected(specimen: Specimen, method: str, asked: Images) -> Images:
    """The module's answer in float64, with channels last."""
    exact = built(specimen).double()
    call: Any = exact if method == specimen.method else getattr(exact, method, None)
    given = torch.tensor(asked).double().permute(0, 3, 1, 2)
    if method in {"decode", "reconstruct"} and hasattr(exact, "encode"):
        codes = exact.encode(given)
        answer = exact.decode(codes[0] if isinstance(codes, tuple) else codes)
    elif specimen.noise_level is not None:
        answer = call(given, torch.full((len(given),), LEVEL, dtype=torch.float64))
    else:
        answer = call(given)
    first = answer[0] if isinstance(answer, tuple) else answer
    pixels = first if method == "encode" else first.clamp(0, 1)
    return pixels.movedim(1, -1).numpy() if pixels.ndim > 2 else pixels.numpy()
