"""Image files to rows: what they cost, and what becomes of depth, transparency and orientation."""

import io
import time
from collections.abc import Callable

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.shapes import Shapes
from PIL import Image

from server.codec.images import GraphInput, PixelBudget, arrays_of_files
from server.codec.pixels import UNIT
from server.errors import CancelledError, DeadlineError, InvalidArgumentError
from server.execution_config import LimitsConfig
from tests.reliability.attacks.hostile_images import progressive
from tests.server.conftest import Served, metric

GREY, COLOUR = (8, 8, 1), (8, 8, 3)


def file(image: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def rows(
    *files: bytes,
    shape: tuple[int, int, int] = GREY,
    resize: bool = False,
    wanted: Callable[[], None] = lambda: None,
    **limits: int,
) -> np.ndarray:
    message = pb.EncodedImages(files=files, resize=resize)
    budget = PixelBudget(LimitsConfig(**limits), wanted)
    wanted = GraphInput(Shapes(shape, (4,)), np.dtype(np.uint8), UNIT)
    return np.stack(arrays_of_files(message, "images", wanted, 1024, budget))


def test_sixteen_bits_become_eight() -> None:
    deep = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)
    expected = np.rint(deep / 257).astype(np.uint8)[None, :, :, None]
    np.testing.assert_array_equal(rows(file(Image.fromarray(deep))), expected)


def test_what_is_transparent_lies_on_black() -> None:
    half = Image.new("RGBA", (8, 8), (200, 100, 50, 0))
    half.paste((200, 100, 50, 255), (0, 0, 8, 4))
    got = rows(file(half), shape=COLOUR)[0]
    assert (got[:4] == (200, 100, 50)).all()
    assert (got[4:] == 0).all()
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 255, 255, 255])
    assert (rows(file(palette, transparency=1)) == 0).all()
    assert (rows(file(palette)) == 255).all()


def test_photographs_stand_upright() -> None:
    shown = np.zeros((8, 6), np.uint8)
    shown[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned = file(Image.fromarray(np.rot90(shown).copy()), exif=exif)
    assert (rows(turned, shape=(8, 6, 1))[0, :, :, 0] == shown).all()
    with pytest.raises(InvalidArgumentError, match="expected images of 6 x 8 pixels"):
        rows(turned, shape=(6, 8, 1))


def test_a_request_has_a_budget_of_pixels() -> None:
    tiny = file(Image.new("L", (40, 50)), "WEBP")
    assert rows(*[tiny] * 3, resize=True, max_request_pixels=6000).shape == (3, 8, 8, 1)
    with pytest.raises(InvalidArgumentError, match=r"files\[3\]: expected at most 6000 pixels in the images"):
        rows(*[tiny] * 4, resize=True, max_request_pixels=6000)


def photo(width: int, height: int, **settings: object) -> bytes:
    return file(Image.new("L", (width, height), 77), "JPEG", **settings)


def test_photographs_of_phones_can_be_resized() -> None:
    for size in ((4032, 3024), (8160, 6120)):
        assert (rows(photo(*size), resize=True) == 77).all()
    # As many as the budget of pixels allows at a reduced scale.
    assert len(rows(*[photo(4032, 3024)] * 5, resize=True, max_request_pixels=5 * 3_048_192)) == 5
    advice = (
        r"4194304 pixels, got 3024 x 4032 .height x width.: "
        r"set resize .this file may then have 50331648 .*--max-image-pixels"
    )
    with pytest.raises(InvalidArgumentError, match=advice):
        rows(photo(4032, 3024))


@pytest.mark.parametrize(
    ("image", "limits", "message"),
    [
        (
            photo(4032, 3024),
            {"max_resized_pixels": 9_000_000},
            r"9000000 pixels, got 3024 x 4032 .*--max-resized-pixels",
        ),
        (photo(4800, 4000, progressive=True), {}, r"16777216 pixels, got 4000 x 4800 .*--max-resized-pixels"),
        (file(Image.new("L", (4032, 3024))), {}, r"4194304 pixels, got 3024 x 4032 .*: send .*--max-image-pixels"),
        (file(Image.new("L", (70_000, 1))), {}, r"65535 pixels a side, got 1 x 70000 .*--max-image-side"),
        (photo(64, 64, progressive=True), {"max_image_scans": 5}, r"at most 5 scans in a JPEG file"),
        (photo(64, 64, comment=bytes(9)), {"max_image_parts": 5}, r"at most [67] markers, chunks"),
        (file(Image.new("L", (9, 9)), "TIFF", compression="lzma"), {}, "without lzma compression: save it as PNG"),
        (
            file(Image.new("L", (9, 9)), "ICO"),
            {},
            "expected a PNG, JPEG, WebP, BMP, GIF or TIFF file, got something else",
        ),
    ],
    ids=["pixels", "progressive", "png", "side", "scans", "parts", "compression", "format"],
)
def test_what_a_file_may_cost_is_limited(image: bytes, limits: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"images.files\[0\]: .*{message}"):
        rows(image, resize=True, **limits)


def test_a_long_decode_ends_with_its_call() -> None:
    looks = iter(range(1000))

    def wanted() -> None:
        if next(looks) == 500:
            raise DeadlineError("late")

    with pytest.raises(DeadlineError):
        rows(progressive(5000, side=256), resize=True, wanted=wanted, max_image_scans=9999)
    assert next(looks) == 501


def test_nothing_is_decoded_for_a_caller_who_has_gone() -> None:
    looks = iter(range(100))

    def wanted() -> None:
        if next(looks) == 2:
            raise CancelledError("gone")

    with pytest.raises(CancelledError):
        rows(*[file(Image.new("L", (8, 8)))] * 9, wanted=wanted)
    assert next(looks) == 3


def test_many_large_files_are_refused_before_they_cost_anything(server: Served) -> None:
    large = file(Image.new("L", (2048, 2048)), "WEBP")
    encoded = pb.EncodedImages(files=[large] * 1024, resize=True)
    request = pb.EncodeRequest(model_name="fc-ae", images=pb.Images(encoded=encoded))
    with pytest.raises(grpc.RpcError) as failed:
        server.stub.Encode(request, timeout=60)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "images.encoded.files[16]" in failed.value.details()


def test_files_for_nobody_wait_for_nothing(server: Served) -> None:
    # Sixteen images of the largest size take a second or two; nobody waits for the later requests that long.
    encoded = pb.EncodedImages(files=[file(Image.new("L", (2048, 2048)), "WEBP")] * 16, resize=True)
    request = pb.EncodeRequest(model_name="fc-ae", images=pb.Images(encoded=encoded))
    calls = [server.stub.Encode.future(request, timeout=0.2) for _ in range(60)]
    assert any(call.exception() for call in calls)
    started = time.monotonic()
    small = pb.EncodedImages(files=[file(Image.new("L", (8, 8)))])
    server.stub.Encode(pb.EncodeRequest(model_name="fc-ae", images=pb.Images(encoded=small)), timeout=60)
    assert time.monotonic() - started < 10
    end = time.monotonic() + 60
    while metric(server, "autoencoder_requests_in_flight", method="Encode"):
        assert time.monotonic() < end
        time.sleep(0.01)
