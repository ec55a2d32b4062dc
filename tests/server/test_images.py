"""Images on the wire and rows of a graph, both ways, over many shapes and values."""

import io

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from server import images, tensor
from server.config import LimitsConfig
from server.errors import InvalidArgumentError

from .conftest import array
from .conftest import tensor as message_of

SHAPE = (3, 5, 1)
UINT8, FLOAT32 = np.dtype(np.uint8), np.dtype(np.float32)
BYTES = arrays(np.uint8, st.tuples(st.integers(1, 6), st.just(3), st.just(5), st.just(1)))
FLOATS = arrays(np.float32, (2, 3, 5, 1), elements=st.floats(0, 1, width=32))


def rows(batch: np.ndarray, dtype: np.dtype) -> np.ndarray:
    data, count = images.rows_of_tensor(message_of(batch), "images", SHAPE, dtype, 1024)
    assert count == len(batch)
    return np.frombuffer(data, dtype).reshape(count, *SHAPE)


@given(BYTES)
@settings(max_examples=50)
def test_bytes_reach_a_graph_of_bytes_as_they_are(batch: np.ndarray) -> None:
    np.testing.assert_array_equal(rows(batch, UINT8), batch)
    np.testing.assert_array_equal(rows(batch[..., 0], UINT8), batch)


@given(BYTES)
@settings(max_examples=50)
def test_bytes_survive_the_way_through_floats(batch: np.ndarray) -> None:
    floats = rows(batch, FLOAT32)
    np.testing.assert_array_equal(floats, batch / np.float32(255))
    np.testing.assert_array_equal(rows(floats, UINT8), batch)
    np.testing.assert_array_equal(images.to_bytes(floats), batch)


@given(FLOATS)
@settings(max_examples=50)
def test_floats_are_rounded_to_the_nearest_byte(batch: np.ndarray) -> None:
    np.testing.assert_array_equal(rows(batch, FLOAT32), batch)
    assert np.abs(rows(batch, UINT8).astype(np.float64) - batch * 255.0).max() <= 0.5 + 1e-4


@given(st.binary(max_size=400))
@settings(max_examples=200)
def test_no_file_whatever_is_an_accident(content: bytes) -> None:
    message = pb.EncodedImages(files=[content], resize=True)
    with pytest.raises(InvalidArgumentError):
        images.rows_of_files(message, "images", SHAPE, UINT8, 10, LimitsConfig())


@given(st.integers(0, 60), st.integers(0, 255))
@settings(max_examples=100)
def test_no_damaged_file_is_an_accident(position: int, value: int) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.arange(15, dtype=np.uint8).reshape(3, 5)).save(stream, "PNG")
    damaged = bytearray(stream.getvalue())
    damaged[position % len(damaged)] = value
    message = pb.EncodedImages(files=[bytes(damaged)], resize=True)
    try:
        _, count = images.rows_of_files(message, "images", SHAPE, UINT8, 10, LimitsConfig())
    except InvalidArgumentError:
        return
    assert count == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_png_out_is_what_bytes_out_is(channels: int) -> None:
    batch = np.random.default_rng(0).random((4, 6, 7, channels), np.float32)
    files, plain = pb.Images(), pb.Images()
    images.fill(files, batch, pb.IMAGE_FORMAT_PNG)
    images.fill(plain, batch, pb.IMAGE_FORMAT_UINT8)
    drawn = [np.asarray(Image.open(io.BytesIO(file))).reshape(6, 7, channels) for file in files.encoded.files]
    np.testing.assert_array_equal(np.stack(drawn), array(plain.tensor))


def test_values_beyond_the_range_are_clipped_on_the_way_out() -> None:
    beyond = np.array([-0.25, 0, 0.5, 1, 1.25], np.float32)
    assert images.to_bytes(beyond).tolist() == [0, 0, 128, 255, 255]


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.just(4)), elements=st.floats(-10, 10, width=16)))
@settings(max_examples=50)
def test_latents_in_single_and_half_precision(latents: np.ndarray) -> None:
    for sent in (latents, latents.astype(np.float16)):
        read = tensor.read_latents(message_of(sent), "latents", 4, 10)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, latents)


def test_more_latents_than_the_limit() -> None:
    with pytest.raises(InvalidArgumentError, match="at most 3 rows"):
        tensor.read_latents(message_of(np.zeros((4, 2), np.float32)), "latents", 2, 3)
