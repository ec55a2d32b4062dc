"""Tensor specs: inputs and outputs of the graphs of a model, and the RPCs it serves with them; no torch, no onnx."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from autoencoder.v1.model_pb2 import DATA_TYPE_FLOAT32, DATA_TYPE_UINT8, DataType, Signature, TensorSpec
from autoencoder.v1.shapes import Shapes

from bundle.latents import OWN_MODULE, prior

# Batch sizes that the gate tries, and beyond them the number of rows that a test has.
TESTED_BATCHES = (1, 2, 3, 7, 8, 17)
LARGEST_BATCH = 256
# Numbers in the images of the largest batch: beyond it, large images need memory and test nothing more.
_LARGEST_BATCH_NUMBERS = 2**20
_LARGEST_BATCH_PIXELS = 2**18
# Side of a tile, unless a wide halo would leave it too little.
TILE = 256
# Of images of free sizes in one request: 4,096 x 4,096, in float32 a message of the largest size.
MAX_PIXELS = 2**24


@dataclass(frozen=True)
class Sizes:
    """Image sizes that a network of free height and width takes."""

    multiple: int = 1
    minimum: int = 1
    maximum_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Facts:
    """What the shapes of a model's tensors follow from."""

    family: str
    variational: bool
    """Whether the encoder returns log-variances too."""
    image_shape: tuple[int, int, int]
    """(H, W, C); H and W are 0 where they are free."""
    latent_size: int
    """Numbers in a latent vector; 0 without one."""
    labels: tuple[str, ...]
    latent_shape: tuple[int, ...] = ()
    """(h, w, c), h and w 0 where they follow the image's size; empty for vectors."""
    downsampling: int = 0
    """Pixels for each cell of spatial latents, along each axis."""
    sizes: Sizes = Sizes()
    """Matters where height and width are free."""
    float_images: bool = False
    """Whether graphs take images as float32 in 0 … 1 instead of uint8; denoisers always do."""
    noise_level: tuple[float, float, float] | None = None
    """Lowest, highest and default standard deviation, where `denoise` takes one for each image."""

    @property
    def shapes(self) -> Shapes:
        """Of the model's images and latents."""
        latent, sizes = self.latent_shape or (self.latent_size,), self.sizes
        limits = (sizes.multiple, sizes.minimum, sizes.maximum_pixels)
        return Shapes(self.image_shape, latent, len(self.labels), self.downsampling, *limits)

    def has_density(self, has_statistics: bool) -> bool:
        """Whether `Sample` has something to draw from: the prior of a VAE, or the mixture of a plain AE's latents.

        Of free sizes such a mixture is of single positions, and knows nothing of how they belong together.
        """
        if self.variational or (prior(self.family) == "normal" and self.family != OWN_MODULE):
            return self.variational
        return has_statistics and not (self.shapes.free and self.shapes.spatial)


def batch_buckets(image_shape: tuple[int, int, int], side: int = TILE) -> list[int]:
    """List the batch sizes worth warming up, ascending: powers of two up to the largest that export tries.

    Of free sizes, rows are tiles of `side` x `side` pixels: a few, as each is work for milliseconds.
    """
    if image_shape[0]:
        fitting = _LARGEST_BATCH_NUMBERS // prod(image_shape)
        largest = min(LARGEST_BATCH, max(2 * TESTED_BATCHES[-1], fitting))
    else:
        largest = max(1, _LARGEST_BATCH_PIXELS // side**2)
    return [2**exponent for exponent in range(largest.bit_length())]


def signature(name: str, about: Facts) -> Signature:
    """Names, types and shapes of a graph's tensors, as documented in the API."""
    inputs, outputs = _tensors(about)[name]
    return Signature(name=name, file=f"{name}.onnx", inputs=inputs, outputs=outputs)


def served_methods(about: Facts, graphs: Mapping[str, object], attributes: object, density: bool) -> list[str]:
    """RPC names that a model serves with these graphs; `density`: whether there is one to sample from."""
    encode, decode = "encode" in graphs, "decode" in graphs
    served = {
        "Encode": encode,
        "Decode": decode,
        "Reconstruct": "reconstruct" in graphs,
        "Denoise": "denoise" in graphs,
        "Sample": decode and density,
        "Interpolate": encode and decode,
        "Edit": encode and decode and bool(attributes),
        "Classify": "classify" in graphs and bool(about.labels),
        "Detect": "detect" in graphs,
        "Score": "log_weights" in graphs,
    }
    return [name for name, able in served.items() if able]


def _tensors(about: Facts) -> dict[str, tuple[list[TensorSpec], list[TensorSpec]]]:
    def floats(*names: str) -> list[TensorSpec]:
        return [_spec(name, about) for name in names]

    images = [_spec("images", about, DATA_TYPE_FLOAT32 if about.float_images else DATA_TYPE_UINT8)]
    # Of free sizes the server sums up what is left after cropping: padding would count in a graph's sum.
    errors, scores = ([], []) if about.shapes.free else (["squared_errors"], ["scores"])
    return {
        "encode": (images, floats("latents", *(["log_variances"] if about.variational else []))),
        "decode": (floats("latents"), floats("images")),
        "reconstruct": (images, floats("reconstructions", *errors)),
        "denoise": (floats("images", *(["noise_levels"] if about.noise_level else [])), floats("denoised")),
        "classify": (images, floats("probabilities")),
        "detect": (images, floats(*scores, "maps")),
        "log_weights": ([*images, *floats("noise")], floats("log_weights")),
        "prior": (floats("noise"), floats("latents")),
        "log_density": (floats("latents"), floats("log_densities")),
    }


def _spec(name: str, about: Facts, data_type: DataType = DATA_TYPE_FLOAT32) -> TensorSpec:
    return TensorSpec(name=name, data_type=data_type, shape=about.shapes.spec(name))
