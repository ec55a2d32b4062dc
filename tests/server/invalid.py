"""Requests of the typed service that must be refused as INVALID_ARGUMENT: method, request, field at fault, words."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from google.protobuf.message import Message
from PIL import Image

from tests.server.conftest import images, pixels, tensor

Case = tuple[str, Message, str, str]
GOOD = images(pixels(1))
LATENTS = np.zeros((1, 3), np.float32)
BRIGHTER = [pb.AttributeShift(attribute="brightness", amount=1)]


def png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def raw(data_type: int, shape: list[int], data: bytes) -> pb.Images:
    return pb.Images(tensor=pb.Tensor(data_type=data_type, shape=shape, data=data))


def files(*contents: bytes, resize: bool = False) -> pb.Images:
    return pb.Images(encoded=pb.EncodedImages(files=contents, resize=resize))


def bad(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed.flat[0] = value
    return changed


@dataclass(frozen=True)
class Way:
    """A field of a request that takes images or latents, and what makes the rest of the request right."""

    method: str
    field: str
    rest: dict[str, Any]
    channels: int = 1
    limit: int = 1024

    def request(self, value: Message) -> Message:
        kind: type[Message] = getattr(pb, f"{self.method}Request")
        return kind(**self.rest, **{self.field: value})

    def cases(self, wrong: dict[str, tuple[Message, str, str]]) -> Iterator[tuple[str, Case]]:
        for name, (value, path, words) in wrong.items():
            field = f"{self.field}.{path}" if path else self.field
            yield f"{self.method} {self.field}: {name}", (self.method, self.request(value), field, words)

    def image_cases(self) -> Iterator[tuple[str, Case]]:
        side = [8, 8, self.channels]
        size = 64 * self.channels
        floats = np.zeros((1, *side), np.float32)
        # Noise leaves 0 … 1.
        below, allowed = (-4.1, "-4 to 5") if self.method == "Denoise" else (-0.1, "0 to 1")
        limit = "expected one image, got" if self.limit == 1 else f"1 to {self.limit} images"
        return self.cases(
            {
                "nothing": (pb.Images(), "", "got neither"),
                "no rows": (raw(1, [0, *side], b""), "", "got 0"),
                "too many rows": (images(pixels(self.limit + 1, tuple(side))), "", limit),
                "wrong size": (raw(1, [1, 9, 8, self.channels], bytes(72 * self.channels)), "tensor.shape", "(N, 8, 8"),
                "wrong rank": (raw(1, [size], bytes(size)), "tensor.shape", f"({size})"),
                "no shape": (raw(1, [], b""), "tensor.shape", "got ()"),
                "negative size": (raw(1, [-1, *side], b""), "", "got -1"),
                "huge product": (raw(1, [2**31 - 1, *side], bytes(size)), "", limit),
                "short bytes": (raw(1, [1, *side], bytes(size - 1)), "tensor.data", f"expected {size} bytes"),
                "long bytes": (raw(3, [1, *side], bytes(4 * size + 1)), "tensor.data", f"expected {4 * size} bytes"),
                "no type": (raw(0, [1, *side], bytes(size)), "tensor.data_type", "DATA_TYPE_UINT8"),
                "int64": (raw(4, [1, *side], bytes(8 * size)), "tensor.data_type", "DATA_TYPE_INT64"),
                "type of another build": (raw(77, [1, *side], b""), "tensor.data_type", "77"),
                "NaN": (images(bad(floats, np.nan)), "tensor.data", "finite"),
                "infinity": (images(bad(floats, np.inf)), "tensor.data", "finite"),
                "too dark": (images(bad(floats, below)), "tensor.data", f"from {allowed}"),
                "too bright": (images(bad(floats, 255)), "tensor.data", f"from {allowed}"),
                "no files": (files(), "encoded.files", "got 0"),
                "no image": (files(b"GIF89a"), "encoded.files[0]", "PNG, JPEG, WebP, BMP, GIF or TIFF"),
                "truncated image": (files(png(8, 8)[:45]), "encoded.files[0]", "readable"),
                "another size": (files(png(9, 8)), "encoded.files[0]", "set resize"),
                "bomb": (files(png(3000, 3000), resize=True), "encoded.files[0]", "pixels"),
            }
        )

    def latent_cases(self) -> Iterator[tuple[str, Case]]:
        limit = "expected one row, got" if self.limit == 1 else f"at most {self.limit} rows a request"
        return self.cases(
            {
                "another size": (tensor(np.zeros((1, 4), np.float32)), "shape", "(N, 3)"),
                "no rows": (pb.Tensor(data_type=3, shape=[0, 3]), "shape", "got (0, 3)"),
                "too many rows": (tensor(np.zeros((self.limit + 1, 3), np.float32)), "", limit),
                "nothing": (pb.Tensor(), "shape", "got ()"),
                "negative size": (pb.Tensor(data_type=3, shape=[-1, 3]), "shape", "got (-1, 3)"),
                "huge product": (pb.Tensor(data_type=3, shape=[2**31 - 1, 3], data=bytes(12)), "", limit),
                "bytes": (tensor(np.zeros((1, 3), np.uint8)), "data_type", "FLOAT32"),
                "short bytes": (pb.Tensor(data_type=3, shape=[1, 3], data=bytes(11)), "data", "expected 12 bytes"),
                "NaN": (tensor(bad(LATENTS, np.nan)), "data", "finite"),
                "infinity": (tensor(bad(LATENTS, np.inf)), "data", "finite"),
                "far away": (tensor(bad(LATENTS, 2e6)), "data", "finite"),
            }
        )


VAE = {"model_name": "vae"}
ENDS = {**VAE, "steps": 3}
IMAGE_WAYS = [
    Way("Encode", "images", {"model_name": "fc-ae"}),
    Way("Reconstruct", "images", VAE),
    Way("Denoise", "images", {"model_name": "denoiser"}),
    Way("Classify", "images", {"model_name": "multitask"}, channels=3),
    Way("Edit", "images", {**VAE, "shifts": BRIGHTER}),
    Way("Interpolate", "from_images", {**ENDS, "to_latents": tensor(LATENTS)}, limit=1),
    Way("Interpolate", "to_images", {**ENDS, "from_images": GOOD}, limit=1),
]
LATENT_WAYS = [
    Way("Decode", "latents", VAE),
    Way("Edit", "latents", {**VAE, "shifts": BRIGHTER}),
    Way("Interpolate", "from_latents", {**ENDS, "to_latents": tensor(LATENTS)}, limit=1),
    Way("Interpolate", "to_latents", {**ENDS, "from_images": GOOD}, limit=1),
]
# A right request of each method; numbers and choices in it are made wrong one at a time.
RIGHT: dict[str, dict[str, Any]] = {
    "Encode": {**VAE, "images": GOOD},
    "Decode": {**VAE, "latents": tensor(LATENTS)},
    "Reconstruct": {**VAE, "images": GOOD},
    "Denoise": {"model_name": "denoiser", "images": GOOD},
    "Sample": {**VAE, "count": 9},
    "Interpolate": {**ENDS, "from_images": GOOD, "to_images": GOOD},
    "Edit": {**VAE, "images": GOOD, "shifts": BRIGHTER},
    "Classify": {"model_name": "multitask", "images": images(pixels(1, (8, 8, 3)))},
}


def shift(attribute: str, amount: float, times: int = 1) -> list[pb.AttributeShift]:
    return [pb.AttributeShift(attribute=attribute, amount=amount)] * times


WRONG_FIELDS: list[tuple[str, dict[str, Any], str, str]] = [
    *((method, {"model_name": ""}, "model_name", "fc-ae (1)") for method in RIGHT),
    *(
        (method, {"image_format": 8}, "image_format", "got 8")
        for method in ("Decode", "Reconstruct", "Denoise", "Sample", "Interpolate", "Edit")
    ),
    ("Encode", {"model_name": "fc-ae", "posterior": 2}, "posterior", "POSTERIOR_MEAN"),
    ("Encode", {"posterior": 9}, "posterior", "got 9"),
    *(("Sample", {"count": count}, "count", f"got {count}") for count in (0, -1, 1025, 2**31 - 1)),
    ("Sample", {"temperature": -1}, "temperature", "0"),
    ("Sample", {"temperature": 3e38}, "temperature", "finite"),
    ("Sample", {"temperature": float("nan")}, "temperature", "nan"),
    ("Interpolate", {"to_images": None}, "to", "to_images or to_latents"),
    ("Interpolate", {"from_images": None}, "from", "from_images or from_latents"),
    ("Interpolate", {"steps": 1}, "steps", "2 to 1024"),
    ("Interpolate", {"steps": 2**31 - 1}, "steps", "2 to 1024"),
    (
        "Interpolate",
        {"from_images": None, "from_latents": tensor(LATENTS), "interpolation": 2},
        "interpolation",
        "_LIN",
    ),
    ("Interpolate", {"interpolation": 7}, "interpolation", "got 7"),
    ("Edit", {"images": None}, "input", "images or latents"),
    ("Edit", {"shifts": []}, "shifts", "brightness"),
    ("Edit", {"shifts": shift("age", 1)}, "shifts[0].attribute", "brightness"),
    ("Edit", {"shifts": shift("brightness", float("inf"))}, "shifts[0].amount", "finite"),
    ("Edit", {"shifts": shift("brightness", 3e38, 200)}, "shifts", "finite"),
]


def _wrong(method: str, changes: dict[str, Any]) -> Message:
    kind: type[Message] = getattr(pb, f"{method}Request")
    return kind(**{**RIGHT[method], **changes})


INVALID: dict[str, Case] = {
    **{name: case for way in IMAGE_WAYS for name, case in way.image_cases()},
    **{name: case for way in LATENT_WAYS for name, case in way.latent_cases()},
    **{
        f"{method} {field} {number}": (method, _wrong(method, changes), field, words)
        for number, (method, changes, field, words) in enumerate(WRONG_FIELDS)
    },
    "Encode images: second of two": (
        "Encode",
        pb.EncodeRequest(**VAE, images=files(png(8, 8), png(9, 8))),
        "images.encoded.files[1]",
        "set resize",
    ),
    "GetModel model_name": ("GetModel", pb.GetModelRequest(), "model_name", "vae (1)"),
}


def encode(message: pb.Images, **fields: object) -> pb.EncodeRequest:
    return pb.EncodeRequest(model_name="fc-ae", images=message, **fields)
