"""Where latents are made, which no other request should wait for."""

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb

from server.codec import tensors
from tests.server.conftest import GOLDEN, Served, serving, tensor

MANY = 2000
ENDS = np.array([[3, 0, 0], [0, 1, 0]], np.float32)
BRIGHTER = [pb.AttributeShift(attribute="brightness", amount=1)]


@pytest.fixture
def generous(transport: str) -> Iterator[Served]:
    with serving(GOLDEN, transport=transport, poll_seconds=0, max_request_rows=MANY) as served:
        yield served


def sample(served: Served, count: int) -> pb.Tensor:
    request = pb.SampleRequest(model_name="vae", count=count, include_latents=True, image_format=pb.IMAGE_FORMAT_NONE)
    return served.stub.Sample(request, timeout=60).latents


def interpolate(served: Served, count: int) -> pb.Tensor:
    request = pb.InterpolateRequest(
        model_name="vae",
        from_latents=tensor(ENDS[:1]),
        to_latents=tensor(ENDS[1:]),
        steps=count,
        interpolation=pb.INTERPOLATION_SPHERICAL,
        image_format=pb.IMAGE_FORMAT_NONE,
    )
    return served.stub.Interpolate(request, timeout=60).latents


def edit(served: Served, count: int) -> pb.Tensor:
    latents = tensor(np.zeros((count, 3), np.float32))
    request = pb.EditRequest(model_name="vae", latents=latents, shifts=BRIGHTER, image_format=pb.IMAGE_FORMAT_NONE)
    return served.stub.Edit(request, timeout=60).latents


@pytest.mark.parametrize("make", [sample, interpolate, edit])
def test_many_latents_are_made_beside_the_threads_that_take_calls(
    generous: Served, make: Callable[[Served, int], pb.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    fill = tensors.fill

    def note(message: pb.Tensor, array: np.ndarray) -> None:
        threads.append(threading.current_thread().name)
        fill(message, array)

    monkeypatch.setattr(tensors, "fill", note)
    assert make(generous, MANY).shape == [MANY, 3]
    assert make(generous, 2).shape == [2, 3]
    many, few = threads
    assert many.startswith("heavy")
    # A few are not worth the way to another thread.
    assert not few.startswith("heavy")
