"""What is refused, on both transports: the status, the field, and a sentence that says what to do."""

import io

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from PIL import Image

from .conftest import Served, images, pixels, tensor

GOOD = images(pixels(1))
LATENTS = np.zeros((1, 3), np.float32)


def raw(data_type: int, shape: list[int], data: bytes) -> pb.Images:
    return pb.Images(tensor=pb.Tensor(data_type=data_type, shape=shape, data=data))


def files(*contents: bytes, resize: bool = False) -> pb.Images:
    return pb.Images(encoded=pb.EncodedImages(files=contents, resize=resize))


def png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def bad(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed.flat[0] = value
    return changed


def encode(message: pb.Images, **fields: object) -> pb.EncodeRequest:
    return pb.EncodeRequest(model_name="fc-ae", images=message, **fields)


FLOATS = np.zeros((1, 8, 8, 1), np.float32)
INVALID: dict[str, tuple[str, Message, str, str]] = {
    "no images": ("Encode", encode(pb.Images()), "images", "got neither"),
    "no rows": ("Encode", encode(raw(1, [0, 8, 8, 1], b"")), "images", "got 0"),
    "too many rows": ("Encode", encode(images(pixels(1025))), "images", "1 to 1024"),
    "wrong size": ("Encode", encode(raw(1, [1, 9, 8, 1], bytes(72))), "images.tensor.shape", "(N, 8, 8, 1)"),
    "wrong rank": ("Encode", encode(raw(1, [64], bytes(64))), "images.tensor.shape", "(64)"),
    "no shape": ("Encode", encode(raw(1, [], b"")), "images.tensor.shape", "got ()"),
    "negative size": ("Encode", encode(raw(1, [-1, 8, 8, 1], b"")), "images", "got -1"),
    "huge product": ("Encode", encode(raw(1, [2**31 - 1, 8, 8, 1], bytes(64))), "images", "1 to 1024"),
    "short bytes": ("Encode", encode(raw(1, [1, 8, 8, 1], bytes(63))), "images.tensor.data", "wanted 64 bytes"),
    "long bytes": ("Encode", encode(raw(3, [1, 8, 8, 1], bytes(257))), "images.tensor.data", "wanted 256 bytes"),
    "no type": ("Encode", encode(raw(0, [1, 8, 8, 1], bytes(64))), "images.tensor.data_type", "DATA_TYPE_UINT8"),
    "int64": ("Encode", encode(raw(4, [1, 8, 8, 1], bytes(512))), "images.tensor.data_type", "DATA_TYPE_INT64"),
    "type of another build": ("Encode", encode(raw(77, [1, 8, 8, 1], b"")), "images.tensor.data_type", "77"),
    "NaN": ("Encode", encode(images(bad(FLOATS, np.nan))), "images.tensor.data", "finite"),
    "infinity": ("Encode", encode(images(bad(FLOATS, np.inf))), "images.tensor.data", "finite"),
    "below 0": ("Encode", encode(images(bad(FLOATS, -0.1))), "images.tensor.data", "from 0 to 1"),
    "above 1": ("Encode", encode(images(bad(FLOATS, 255))), "images.tensor.data", "from 0 to 1"),
    "posterior of a plain model": ("Encode", encode(GOOD, posterior=2), "posterior", "POSTERIOR_MEAN"),
    "posterior of another build": ("Encode", encode(GOOD, posterior=9), "posterior", "got 9"),
    "no files": ("Encode", encode(files()), "images.encoded.files", "got 0"),
    "no image": ("Encode", encode(files(b"GIF89a")), "images.encoded.files[0]", "PNG, JPEG or WebP"),
    "truncated image": ("Encode", encode(files(png(8, 8)[:45])), "images.encoded.files[0]", "readable"),
    "another size": ("Encode", encode(files(png(8, 8), png(9, 8))), "images.encoded.files[1]", "set resize"),
    "bomb": ("Encode", encode(files(png(3000, 3000), resize=True)), "images.encoded.files[0]", "pixels"),
    "latents of another size": (
        "Decode",
        pb.DecodeRequest(model_name="vae", latents=tensor(np.zeros((1, 4), np.float32))),
        "latents.shape",
        "(N, 3)",
    ),
    "no latents": ("Decode", pb.DecodeRequest(model_name="vae"), "latents.shape", "got ()"),
    "latents of bytes": (
        "Decode",
        pb.DecodeRequest(model_name="vae", latents=tensor(np.zeros((1, 3), np.uint8))),
        "latents.data_type",
        "FLOAT32",
    ),
    "latents of NaN": (
        "Decode",
        pb.DecodeRequest(model_name="vae", latents=tensor(bad(LATENTS, np.nan))),
        "latents.data",
        "finite",
    ),
    "image format of another build": (
        "Decode",
        pb.DecodeRequest(model_name="vae", latents=tensor(LATENTS), image_format=8),
        "image_format",
        "got 8",
    ),
    "no count": ("Sample", pb.SampleRequest(model_name="vae"), "count", "1 to 1024"),
    "negative count": ("Sample", pb.SampleRequest(model_name="vae", count=-1), "count", "got -1"),
    "too large a count": ("Sample", pb.SampleRequest(model_name="vae", count=1025), "count", "got 1025"),
    "negative temperature": ("Sample", pb.SampleRequest(model_name="vae", count=1, temperature=-1), "temperature", "0"),
    "hot temperature": (
        "Sample",
        pb.SampleRequest(model_name="vae", count=9, temperature=3e38),
        "temperature",
        "finite",
    ),
    "NaN temperature": (
        "Sample",
        pb.SampleRequest(model_name="vae", count=1, temperature=float("nan")),
        "temperature",
        "nan",
    ),
    "one end": (
        "Interpolate",
        pb.InterpolateRequest(model_name="vae", from_latents=tensor(LATENTS), steps=3),
        "to",
        "to_images or to_latents",
    ),
    "two items at an end": (
        "Interpolate",
        pb.InterpolateRequest(model_name="vae", from_images=images(pixels(2)), to_images=GOOD, steps=3),
        "from_images",
        "got 2",
    ),
    "one step": (
        "Interpolate",
        pb.InterpolateRequest(model_name="vae", from_images=GOOD, to_images=GOOD, steps=1),
        "steps",
        "2 to 1024",
    ),
    "great circle from the origin": (
        "Interpolate",
        pb.InterpolateRequest(model_name="vae", from_latents=tensor(LATENTS), to_images=GOOD, steps=3, interpolation=2),
        "interpolation",
        "INTERPOLATION_LINEAR",
    ),
    "path of another build": (
        "Interpolate",
        pb.InterpolateRequest(model_name="vae", from_images=GOOD, to_images=GOOD, steps=3, interpolation=7),
        "interpolation",
        "got 7",
    ),
    "nothing to edit": (
        "Edit",
        pb.EditRequest(model_name="vae", shifts=[pb.AttributeShift(attribute="brightness", amount=1)]),
        "input",
        "images or latents",
    ),
    "no shift": ("Edit", pb.EditRequest(model_name="vae", images=GOOD), "shifts", "brightness"),
    "unknown attribute": (
        "Edit",
        pb.EditRequest(model_name="vae", images=GOOD, shifts=[pb.AttributeShift(attribute="age", amount=1)]),
        "shifts[0].attribute",
        "brightness",
    ),
    "infinite amount": (
        "Edit",
        pb.EditRequest(
            model_name="vae",
            images=GOOD,
            shifts=[pb.AttributeShift(attribute="brightness", amount=float("inf"))],
        ),
        "shifts[0].amount",
        "finite",
    ),
    "amount out of the latent space": (
        "Edit",
        pb.EditRequest(
            model_name="vae",
            images=GOOD,
            shifts=[pb.AttributeShift(attribute="brightness", amount=3e38)] * 200,
        ),
        "shifts",
        "finite",
    ),
    "no model name": ("Encode", pb.EncodeRequest(images=GOOD), "model_name", "fc-ae (1)"),
    "no model name to describe": ("GetModel", pb.GetModelRequest(), "model_name", "vae (1)"),
}


def detail(error: grpc.RpcError, kind: type[Message]) -> Message:
    (packed,) = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    status = Status.FromString(packed)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    message = kind()
    assert status.details[0].Unpack(message)
    return message


@pytest.mark.parametrize("case", INVALID)
def test_invalid_arguments(server: Served, case: str) -> None:
    method, request, field, words = INVALID[case]
    with pytest.raises(grpc.RpcError) as failed:
        getattr(server.stub, method)(request, timeout=10)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT, failed.value.details()
    (violation,) = detail(failed.value, BadRequest).field_violations
    assert violation.field == field
    assert words in violation.description


@pytest.mark.parametrize("payload", [b"\xff\xff\xff", b"\x0a\x02\xff\xff", b"\x1a\x7f"])
def test_undecodable_messages(server: Served, payload: bytes) -> None:
    call = server.channel.unary_unary("/autoencoder.v1.AutoencoderService/Encode")
    with pytest.raises(grpc.RpcError) as failed:
        call(payload, timeout=10)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert detail(failed.value, BadRequest).field_violations[0].field == "request"


@pytest.mark.parametrize(("name", "version"), [("nobody", ""), ("vae", "2"), ("vae", "stable"), ("vae", "-1")])
def test_unknown_models(server: Served, name: str, version: str) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        server.stub.GetModel(pb.GetModelRequest(model_name=name, model_version=version), timeout=10)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    assert "vae (1)" in failed.value.details()


def test_a_method_that_the_model_lacks(server: Served) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        server.stub.Encode(pb.EncodeRequest(model_name="denoiser", images=GOOD), timeout=10)
    assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "it serves Denoise" in failed.value.details()
