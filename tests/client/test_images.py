import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import png
from autoencoder.v1.model_pb2 import DataType
from hourglass_client import Client, InvalidArgumentError
from hourglass_client.answers import Decoded, ServingInfo
from hourglass_client.images import HeldArray, Pictures, from_message, held, image_format, to_message
from PIL import Image

from tests.server.conftest import GOLDEN, serving

PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("array", "data_type", "shape"),
    [
        (PIXELS, DataType.DATA_TYPE_UINT8, (2, 3, 4)),
        (PIXELS[0], DataType.DATA_TYPE_UINT8, (1, 3, 4)),
        (PIXELS[..., np.newaxis], DataType.DATA_TYPE_UINT8, (2, 3, 4, 1)),
        (PIXELS / 255, DataType.DATA_TYPE_FLOAT32, (2, 3, 4)),
        ((PIXELS / 255).astype(">f4"), DataType.DATA_TYPE_FLOAT32, (2, 3, 4)),
        (PIXELS.astype(np.uint16), DataType.DATA_TYPE_UINT16, (2, 3, 4)),
        (PIXELS.astype(">u2"), DataType.DATA_TYPE_UINT16, (2, 3, 4)),
        ((PIXELS / 255).astype(np.float16), DataType.DATA_TYPE_FLOAT16, (2, 3, 4)),
        (PIXELS.transpose(0, 2, 1), DataType.DATA_TYPE_UINT8, (2, 4, 3)),
        (PIXELS.tolist(), None, None),
        (PIXELS[0, 0], None, None),
        (PIXELS.astype(np.int64), None, None),
        (PIXELS > 3, None, None),
    ],
)
def test_arrays(array: np.ndarray, data_type: DataType | None, shape: tuple[int, ...] | None) -> None:
    if data_type is None:
        with pytest.raises(InvalidArgumentError, match="images: expected"):
            to_message("images", array)
        return
    tensor = to_message("images", array).tensor
    assert (tensor.data_type, tuple(tensor.shape)) == (data_type, shape)
    names = {DataType.DATA_TYPE_UINT8: "u1", DataType.DATA_TYPE_UINT16: "<u2", DataType.DATA_TYPE_FLOAT16: "<f2"}
    wire = names.get(data_type, "<f4")
    np.testing.assert_array_equal(np.frombuffer(tensor.data, wire), array.astype(wire[-2:]).ravel())


def test_files_are_sent_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    Image.fromarray(PIXELS[0]).save(path)
    contents = path.read_bytes()
    for given in (path, str(path), contents, [path], (contents,)):
        message = to_message("images", given, resize=True)
        assert list(message.encoded.files) == [contents]
        assert message.encoded.resize


def test_pil_images_are_sent_losslessly() -> None:
    pictures = [Image.fromarray(PIXELS[0]), Image.new("P", (4, 3), 1)]
    files = to_message("images", pictures).encoded.files
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(files[0]))), PIXELS[0])
    assert Image.open(io.BytesIO(files[1])).mode == "P"


# Modes that PNG has, and modes that files of other formats have.
MODES = {
    "1": "PNG", "L": "JPEG", "LA": "PNG", "P": "PNG", "RGB": "JPEG", "RGBA": "PNG", "I;16": "PNG", "CMYK": "JPEG",
}  # fmt: skip


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(GOLDEN, poll_seconds=0) as served, Client(served.address) as connected:
        yield connected


def stored(mode: str, orientation: int) -> bytes:
    """A file of 8 x 8 noise with an EXIF orientation."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 251)
    else:
        image = Image.fromarray(noise).convert("RGB" if mode == "CMYK" else mode).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    image.save(stream, MODES[mode], exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", [1, 2, 6, 8])
@pytest.mark.parametrize("mode", MODES)
def test_a_pil_image_gives_the_same_as_its_file(client: Client, mode: str, orientation: int, tmp_path: Path) -> None:
    contents = stored(mode, orientation)
    path = tmp_path / "image"
    path.write_bytes(contents)
    image = Image.open(path)
    assert image.mode == mode
    for model in ("vae", "multitask"):
        expected = client.encode(contents, model=model).latents
        for given in (path, image, [image], image.copy()):
            np.testing.assert_array_equal(client.encode(given, model=model).latents, expected)


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A JPEG of more pixels than a server decodes of other files; lying, as a phone stores it."""
    scene = Image.radial_gradient("L").resize((3200, 1400))
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.merge("RGB", (scene, scene.transpose(Image.Transpose.ROTATE_180), scene)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def test_a_large_pil_image_can_be_resized_as_its_file_can(client: Client, photo: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo)
    expected = client.encode(path, model="multitask", resize=True).latents
    for source in (path, io.BytesIO(photo)):
        with Image.open(source) as image:
            assert to_message("images", image, resize=True).encoded.files[0] == photo
            np.testing.assert_array_equal(client.encode(image, model="multitask", resize=True).latents, expected)
            image.load()
    (file,) = to_message("images", [image], resize=True).encoded.files
    assert Image.open(io.BytesIO(file)).size == (700, 1600)
    np.testing.assert_allclose(client.encode(image, model="multitask", resize=True).latents, expected, atol=0.05)
    with pytest.raises(InvalidArgumentError, match="got 1400 x 3200"):
        client.encode(to_png(image), model="multitask", resize=True)


def to_png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_a_large_pil_image_of_any_mode_is_reduced_to_be_resized(mode: str) -> None:
    (file,) = to_message("images", Image.new(mode, (4100, 2050)), resize=True).encoded.files
    assert Image.open(io.BytesIO(file)).size == (2050, 1025)
    (file,) = to_message("images", Image.new(mode, (4100, 2050))).encoded.files
    assert Image.open(io.BytesIO(file)).size == (4100, 2050)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "RGBX", "PA", "RGBa", "La", "I", "I;16B"])
def test_a_pil_image_of_a_mode_that_png_lacks_is_converted(mode: str) -> None:
    (file,) = to_message("images", Image.new(mode, (4, 3))).encoded.files
    assert Image.open(io.BytesIO(file)).size == (4, 3)


def test_unusable_pil_images_are_refused() -> None:
    cut = Image.open(io.BytesIO(stored("RGB", 1)[:-20]))
    cases = {
        "mode F": Image.new("F", (4, 3), 0.5),
        "mode I": Image.new("I", (4, 3), 70_000),
        "got mode I": Image.new("I", (4, 3), 200),
        "truncated": cut,
        "closed": Image.open(io.BytesIO(stored("RGB", 1))),
    }
    cases["closed"].close()
    for words, image in cases.items():
        with pytest.raises(
            InvalidArgumentError, match=rf"images\[1\]: expected a .*PIL image.*{'' if words == 'closed' else words}"
        ):
            to_message("images", [b"", image])


@pytest.mark.parametrize(
    "images", [[PIXELS[0], PIXELS[0, 1:]], [b"file", PIXELS[0]], object(), io.BytesIO(b"file"), []]
)
def test_what_is_no_image_is_refused(images: object) -> None:
    with pytest.raises(InvalidArgumentError, match="images: expected"):
        to_message("images", images)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"images: .* got .*absent.png: No such file"):
        to_message("images", tmp_path / "absent.png")
    with pytest.raises(InvalidArgumentError, match=rf"images\[0\]: expected an image file, got the folder {tmp_path}"):
        to_message("images", [tmp_path])
    with pytest.raises(InvalidArgumentError, match="null byte"):
        to_message("images", "a\0.png")


def test_sixteen_bits_to_pil() -> None:
    words = np.arange(12, dtype=np.uint16).reshape(1, 3, 4, 1) * 5000
    (grey,) = Pictures(words, ()).to_pil()
    assert grey.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(grey), words[0, ..., 0])
    (read,) = Pictures(np.empty((0, 0, 0, 0), np.uint8), (png.encode(words[0]),)).to_pil()
    np.testing.assert_array_equal(np.asarray(read), words[0, ..., 0])
    colours = words.repeat(3, 3)
    for pictures in (Pictures(colours, ()), Pictures(words, (png.encode(colours[0]),))):
        with pytest.raises(ValueError, match="Pillow cannot hold colours of 16 bits"):
            pictures.to_pil()


def test_a_large_array_is_held_back_until_it_is_sent() -> None:
    large = np.full((2, 1500, 1500), 0.5)
    kept = held("images", large)
    assert isinstance(kept, HeldArray)
    message = to_message("images", kept)
    assert (message.tensor.data_type, message.tensor.data) == (DataType.DATA_TYPE_FLOAT32, b"")
    kept.fill(message)
    assert message == to_message("images", large)
    assert held("images", PIXELS) is PIXELS
    with pytest.raises(InvalidArgumentError, match="images: expected uint8"):
        held("images", np.zeros((2000, 2000), np.int64))


def test_unknown_format_is_rejected() -> None:
    with pytest.raises(InvalidArgumentError, match="uint8, uint16, float32, png, png16, none"):
        image_format("jpeg")


@pytest.mark.parametrize("kind", ["uint8", "float32", "png"])
def test_answers_open_as_pil_images(kind: str) -> None:
    pixels = PIXELS[..., np.newaxis]
    if kind == "png":
        message = to_message("images", [Image.fromarray(each) for each in PIXELS])
    else:
        message = to_message("images", pixels if kind == "uint8" else (pixels / 255).astype(np.float32))
    answer = Decoded(*from_message(message), ServingInfo("vae", "1", 0, 0, 1))
    np.testing.assert_array_equal(np.stack([np.asarray(each) for each in answer.to_pil()]), PIXELS)


def test_answer_without_images_is_empty() -> None:
    images, files = from_message(pb.Images())
    assert (len(images), files) == (0, ())


def test_pixels_slightly_out_of_range_do_not_wrap_around() -> None:
    picture = Pictures(np.array([[[[-0.01], [1.01]]]], np.float32), ())
    assert np.asarray(picture.to_pil()[0]).tolist() == [[0, 255]]


def test_pil_images_without_pillow_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"\./client\[images\]"):
        Pictures(np.zeros((1, 8, 8, 1), np.uint8), ()).to_pil()
