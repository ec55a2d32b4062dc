import numpy as np
import pytest
from autoencoder.v1.autoencoder_pb2 import Tensor
from autoencoder.v1.model_pb2 import DataType
from hourglass_client import InternalError, InvalidArgumentError
from hourglass_client.tensors import array_tensor, latents_tensor, to_array


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (2, 3, 4)])
def test_round_trip(kind: type[np.floating], shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype(kind)
    back = to_array(array_tensor(array))
    np.testing.assert_array_equal(back, array, strict=True)
    assert back.flags.writeable


def test_round_trip_of_bytes() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(to_array(array_tensor(array)), array, strict=True)


def test_one_latent_is_a_batch_of_one() -> None:
    tensor = latents_tensor("latents", [0.5, 1.5])
    assert (tuple(tensor.shape), tensor.data_type) == ((1, 2), DataType.DATA_TYPE_FLOAT32)


def test_spatial_latents_of_one_image() -> None:
    tensor = latents_tensor("latents", np.zeros((4, 5, 2), np.float16))
    assert (tuple(tensor.shape), tensor.data_type) == ((1, 4, 5, 2), DataType.DATA_TYPE_FLOAT16)


def test_round_trip_of_words() -> None:
    array = np.array([[0, 258], [65_535, 1]], ">u2")
    back = to_array(array_tensor(array))
    np.testing.assert_array_equal(back, array)
    assert back.dtype == np.uint16


@pytest.mark.parametrize("latents", [np.zeros((1, 2, 3, 4, 5)), np.zeros((2, 3), np.int64), 1.0, [[0.5], [0.5, 1]]])
def test_invalid_latents_are_rejected(latents: np.ndarray) -> None:
    with pytest.raises(InvalidArgumentError, match=r"latents: expected floating-point latents \(N, D\)"):
        latents_tensor("latents", latents)


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(shape=[1], data=b"0"),
        Tensor(data_type=DataType.DATA_TYPE_FLOAT32, shape=[2], data=b"0000"),
        Tensor(data_type=DataType.DATA_TYPE_UINT8, shape=[-1, -1], data=b"0"),
    ],
)
def test_an_inconsistent_tensor_is_an_error(tensor: Tensor) -> None:
    with pytest.raises(InternalError, match="do not fit together"):
        to_array(tensor)
