"""What the command line says and asks of image files: their bits, and what `--resize` does to them."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from autoencoder.v1 import png
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT8, Model
from autoencoder.v1.shapes import Shapes
from numpy.typing import NDArray

from hourglass_client.bands.files import FileFacts, facts, profile
from hourglass_client.images import ImageFormat

# In an ICC profile, ICC.1:2022 section 7.2.
_COLOUR_SPACE = slice(16, 20)


def file_facts(path: Path) -> FileFacts | None:
    """What the header of a file says; None of a pipe, and where Pillow would be needed and is missing."""
    try:
        return facts(path.read_bytes()) if path.is_file() else None
    except OSError:
        return None


def keeps_sixteen_bits(model: Model, method: str) -> bool:
    """Whether the graph of a method takes more than 8 bits a channel."""
    return any(each.name == method and each.inputs[0].data_type != DATA_TYPE_UINT8 for each in model.signatures)


def written_as(images: Sequence[Path] | NDArray[Any], *, keeps: bool) -> ImageFormat:
    """PNG files of 16 bits for images of 16 bits, if the model keeps them, else of 8."""
    if not keeps:
        return "png"
    if isinstance(images, np.ndarray):
        return "png16" if images.dtype.kind == "u" and images.dtype.itemsize == np.dtype(np.uint16).itemsize else "png"
    known = [file_facts(path) for path in images]
    return "png16" if any(each is not None and each.sixteen_bits for each in known) else "png"


def with_profile_of(images: Sequence[Path] | NDArray[Any], index: int, file: bytes) -> bytes:
    """A PNG file with the colour profile of the image that it was made of, if that is a file with one; needs Pillow."""
    own = b"" if isinstance(images, np.ndarray) else _profile(images[index])
    header = png.header(file)
    same_space = header is not None and own[_COLOUR_SPACE] == (b"GRAY" if header.grey else b"RGB ")
    return png.with_profile(file, own) if same_space else file


def _profile(path: Path) -> bytes:
    try:
        return profile(path.read_bytes()) if path.is_file() else b""
    except OSError:
        return b""


def note_resized(paths: Iterable[Path], model: Model) -> None:
    """Say on stderr what `--resize` did, once for each size that was changed."""
    if Shapes.of(model).free:
        _say("--resize changes nothing: this model takes images of any size")
        return
    by_size: dict[tuple[int, int] | None, list[Path]] = defaultdict(list)
    for path in paths:
        known = file_facts(path)
        by_size[known.size if known else None].append(path)
    for size, changed in by_size.items():
        if size == (model.height, model.width):
            continue
        names = f"{changed[0]}" + (f" and {len(changed) - 1} more" if len(changed) > 1 else "")
        before = f" from {size[0]} x {size[1]}" if size else ""
        after = f"{model.height} x {model.width} (height x width)"
        same = "the files themselves are" if len(changed) > 1 else "the file itself is"
        _say(f"{names}: resized{before} to {after}; {same} unchanged")


def shown_shapes(model: Model) -> dict[str, object]:
    """Shapes of images and latents: 8x8x1, any x any x 3."""
    shapes = Shapes.of(model)
    image = f"any x any x {model.channels}, multiples of {shapes.multiple}" if shapes.free else _times(shapes.image)
    if not shapes.spatial:
        return {"image": image, "latent": model.latent_size}
    if not shapes.free:
        return {"image": image, "latent": _times(shapes.latent)}
    scale = shapes.downsampling
    return {"image": image, "latent": f"any/{scale} x any/{scale} x {shapes.latent[-1]}"}


def shows_bar() -> bool:
    """Whether to show a bar for large images: to a person, if tqdm is installed."""
    return sys.stderr.isatty() and find_spec("tqdm") is not None


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _say(text: str) -> None:
    sys.stderr.write(f"hourglass: note: {text}\n")
