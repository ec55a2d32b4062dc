"""Where latents are made, which no other request should wait for; moves that depend on where a latent is."""

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from scipy.linalg import expm

from bundle.density.moves import Move
from bundle.latents import LatentStatistics
from bundle.layout import LATENTS_FILE
from server.codec import tensors
from server.services.autoencoder import generation
from tests.server.conftest import GOLDEN, Served, array, copy_version, serving, tensor

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


def test_many_shifts_are_added_up_beside_the_threads_that_take_calls(
    generous: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    move = LatentStatistics.move

    def note(statistics: LatentStatistics, amounts: Iterable[tuple[int, float]]) -> Move:
        threads.append(threading.current_thread().name)
        return move(statistics, amounts)

    monkeypatch.setattr(LatentStatistics, "move", note)

    def moved(shifts: int) -> np.ndarray:
        # So few bytes that reading them is no reason to go to another thread.
        each = pb.AttributeShift(attribute="brightness", amount=1 / shifts)
        latents = tensor(np.ones((1, 3), np.float32))
        request = pb.EditRequest(model_name="vae", latents=latents, shifts=[each] * shifts)
        return array(generous.stub.Edit(request, timeout=60).latents)

    np.testing.assert_allclose(moved(200), moved(100), rtol=1e-6)
    many, few = threads
    assert many.startswith("heavy")
    assert not few.startswith("heavy")


@pytest.mark.parametrize(
    ("size", "curved", "most"), [(3, True, 128), (20, True, 10), (64, True, 1), (64, False, 128), (2**16, False, 4)]
)
def test_shifts_of_many_numbers_count_for_more(size: int, curved: bool, most: int) -> None:
    maps = np.zeros((1, size, size)) if curved else None
    version: Any = SimpleNamespace(statistics=SimpleNamespace(latent_size=size, attribute_maps=maps))
    assert generation._cost_of_adding(version, [(0, 1.0)] * most) <= generation._HEAVY_NUMBERS
    assert generation._cost_of_adding(version, [(0, 1.0)] * (most + 1)) > generation._HEAVY_NUMBERS


def write_curved(repository: Path, **changed: np.ndarray) -> LatentStatistics:
    """The golden VAE with a direction that depends on the place of the latent; its statistics."""
    data = (GOLDEN / "vae" / "1" / LATENTS_FILE).read_bytes()
    changed = {"attribute_maps": np.random.default_rng(0).normal(0, 0.3, (1, 3, 3)), **changed}
    curved = dataclasses.replace(LatentStatistics.from_bytes(data), **changed)
    written = curved.to_bytes()

    def describe(model: dict) -> None:
        for file in model["files"]:
            if file["path"] == LATENTS_FILE:
                file.update(size_bytes=str(len(written)), sha256=hashlib.sha256(written).hexdigest())

    (copy_version(repository, "vae", 1, describe) / LATENTS_FILE).write_bytes(written)
    return curved


def test_edit_follows_a_direction_that_depends_on_the_place(tmp_path: Path, transport: str) -> None:
    statistics = write_curved(tmp_path)
    assert statistics.attribute_maps is not None
    latents = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    generator = np.zeros((4, 4))
    generator[:3, :3], generator[:3, 3] = statistics.attribute_maps[0], statistics.attribute_directions[0]
    expected = (np.pad(latents, ((0, 0), (0, 1)), constant_values=1) @ expm(1.5 * generator).T)[:, :3]
    with serving(tmp_path, transport=transport, poll_seconds=0) as served:

        def edited(points: np.ndarray, *amounts: float) -> np.ndarray:
            shifts = [pb.AttributeShift(attribute="brightness", amount=amount) for amount in amounts]
            request = pb.EditRequest(model_name="vae", latents=tensor(points), shifts=shifts)
            return array(served.stub.Edit(request, timeout=60).latents)

        moved = edited(latents, 2.0, -0.5)
        np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(edited(latents[2:3], 2.0, -0.5)[0], moved[2])
        np.testing.assert_allclose(edited(moved, -1.5), latents, rtol=1e-4, atol=1e-5)
        with pytest.raises(grpc.RpcError) as refused:
            edited(latents, 1e30)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "shifts" in refused.value.details()


@pytest.mark.parametrize(
    ("maps", "amount"),
    [
        (np.full((1, 3, 3), 1e300), 1e8),
        (np.diag([1.5 * 2.0**1022, 0, 0])[np.newaxis], 1),
        # It contracts, and is too long for its end to be computed.
        (np.ones((1, 3, 3)), -3e38),
    ],
)
def test_a_move_that_cannot_be_computed_is_refused(
    tmp_path: Path, transport: str, maps: np.ndarray, amount: float
) -> None:
    write_curved(tmp_path, attribute_maps=maps, attribute_directions=np.ones((1, 3)))
    shifts = [pb.AttributeShift(attribute="brightness", amount=amount)]
    request = pb.EditRequest(model_name="vae", latents=tensor(np.full((1, 3), 0.1, np.float32)), shifts=shifts)
    with serving(tmp_path, transport=transport, poll_seconds=0) as served:
        with pytest.raises(grpc.RpcError) as refused:
            served.stub.Edit(request, timeout=60)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "ask for smaller amounts" in refused.value.details()
