import io
import sys
from pathlib import Path

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.model_pb2 import DataType
from hourglass_client import InvalidArgumentError
from hourglass_client.answers import Decoded, ServingInfo
from hourglass_client.images import Pictures, from_message, image_format, to_message
from PIL import Image

PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("array", "data_type", "shape"),
    [
        (PIXELS, DataType.DATA_TYPE_UINT8, (2, 3, 4)),
        (PIXELS[0], DataType.DATA_TYPE_UINT8, (1, 3, 4)),
        (PIXELS[..., np.newaxis], DataType.DATA_TYPE_UINT8, (2, 3, 4, 1)),
        (PIXELS / 255, DataType.DATA_TYPE_FLOAT32, (2, 3, 4)),
        ((PIXELS / 255).astype(">f4"), DataType.DATA_TYPE_FLOAT32, (2, 3, 4)),
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
    wire = {DataType.DATA_TYPE_UINT8: "u1", DataType.DATA_TYPE_FLOAT16: "<f2"}.get(data_type, "<f4")
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


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        to_message("images", tmp_path / "absent.png")


def test_unknown_format_is_rejected() -> None:
    with pytest.raises(InvalidArgumentError, match="uint8, float32, png, none"):
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
    with pytest.raises(ImportError, match=r"hourglass-client\[images\]"):
        Pictures(np.zeros((1, 8, 8, 1), np.uint8), ()).to_pil()
