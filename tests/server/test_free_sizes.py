"""Models of free sizes, loaded for real: tiles against whole images in bits, and bundles that are refused."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1.model_pb2 import Tiling
from autoencoder.v1.shapes import pad

from server.calls.call import FOREVER, Call
from server.errors import Status
from tests.server import free_models
from tests.server.conftest import Served, serving
from tests.server.models.test_manager import readyz

SIZES = [(1, 1), (31, 32), (33, 32), (32, 77), (101, 64), (7, 200)]


@dataclass
class Answers:
    """Takes what ends a call."""

    results: list[list[np.ndarray]] = field(default_factory=list)
    status: Status | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def send_all(self, answers: object) -> None:
        raise AssertionError(answers)

    def fail(self, token: object, status: Status) -> None:
        del token
        self.status = status
        self.ended.set()

    def take(self, results: list[list[np.ndarray]]) -> None:
        self.results = results
        self.ended.set()


def submit(
    served: Served, name: str, items: Sequence[np.ndarray], levels: Sequence[float] = (), signature: str = "denoise"
) -> tuple[Call, Answers]:
    answers = Answers()
    call = Call("Denoise", time.monotonic(), FOREVER, (), answers, None, lambda *_: None)
    served.app.table.get(name, "").shaped[signature].submit(call, items, answers.take, levels)
    return call, answers


def outputs(served: Served, name: str, *items: np.ndarray, signature: str = "denoise", **more: object) -> list:
    answers = submit(served, name, items, signature=signature, **more)[1]
    assert answers.ended.wait(30)
    assert answers.status is None
    return answers.results


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 1), np.float32)


def even(image: np.ndarray) -> np.ndarray:
    """As the graphs get it."""
    height, width, _ = image.shape
    return pad(image, (height + height % 2, width + width % 2))


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("models")
    made = {
        "plain": free_models.write_denoiser(folder, "plain"),
        "levels": free_models.write_denoiser(folder, "levels", levels=True),
        "fixed": free_models.write_denoiser(folder, "fixed", levels=True, size=28),
        "whole": free_models.write_denoiser(folder, "whole", whole=True),
        **free_models.write_autoencoder(folder, "code"),
    }
    return folder, made


@pytest.fixture(scope="module")
def served(graphs: tuple[Path, dict[str, bytes]]) -> Iterator[Served]:
    with serving(graphs[0], poll_seconds=0, max_untiled_pixels=4096, inline_run_microseconds=0) as made:
        yield made


@pytest.mark.parametrize("size", SIZES)
def test_tiles_have_the_bits_of_the_whole_image(
    served: Served, graphs: tuple[Path, dict[str, bytes]], size: tuple[int, int]
) -> None:
    image = picture(*size)
    (whole,) = free_models.run(graphs[1]["plain"], {"images": even(image)[None]})
    call, answers = submit(served, "plain", [image])
    assert answers.ended.wait(30)
    assert answers.results[0][0].tobytes() == whole[0, : size[0], : size[1]].tobytes()
    assert (call.tiles > 0) == (max(size) > 32)
    assert call.exact


def test_many_callers_images_of_many_sizes_have_the_bits_of_each_alone(
    served: Served, graphs: tuple[Path, dict[str, bytes]]
) -> None:
    images = [picture(*SIZES[index % len(SIZES)], seed=index) for index in range(60)]
    levels = [index / 120 for index in range(60)]
    sent = [submit(served, "levels", [each], [level]) for each, level in zip(images, levels, strict=True)]
    for (_, answers), image, level in zip(sent, images, levels, strict=True):
        assert answers.ended.wait(30)
        feeds = {"images": even(image)[None], "noise_levels": np.array([level], np.float32)}
        (whole,) = free_models.run(graphs[1]["levels"], feeds)
        height, width, _ = image.shape
        assert answers.results[0][0].tobytes() == whole[0, :height, :width].tobytes()


def test_noise_levels_at_a_fixed_size(served: Served, graphs: tuple[Path, dict[str, bytes]]) -> None:
    images, levels = [picture(28, 28, seed) for seed in range(9)], [seed / 20 for seed in range(9)]
    feeds = {"images": np.stack(images), "noise_levels": np.array(levels, np.float32)}
    (expected,) = free_models.run(graphs[1]["fixed"], feeds)
    got = outputs(served, "fixed", *images, levels=levels)
    np.testing.assert_array_equal(np.stack([each for (each,) in got]), expected)


def test_codes_are_those_of_padded_images_and_decode_to_their_size(
    served: Served, graphs: tuple[Path, dict[str, bytes]]
) -> None:
    image = picture(67, 45)
    ((code,),) = outputs(served, "code", image, signature="encode")
    assert code.shape == (34, 23, 2)
    (whole,) = free_models.run(graphs[1]["encode"], {"images": even(image)[None]})
    assert code.tobytes() == whole[0].tobytes()
    ((decoded,),) = outputs(served, "code", code, signature="decode")
    (whole,) = free_models.run(graphs[1]["decode"], {"latents": code[None]})
    assert decoded.tobytes() == whole[0].tobytes()


def test_a_graph_without_tiles_runs_whole_or_not_at_all(served: Served, graphs: tuple[Path, dict[str, bytes]]) -> None:
    image = picture(63, 64)
    (whole,) = free_models.run(graphs[1]["whole"], {"images": even(image)[None]})
    ((got,),) = outputs(served, "whole", image)
    assert got.tobytes() == whole[0, :63].tobytes()
    call, answers = submit(served, "whole", [image, picture(66, 64)])
    assert answers.status is not None
    assert answers.status.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "images: expected images of at most 4096 pixels, because the graph looks at the whole image" in call.problem


def test_models_that_differ_in_what_they_take(served: Served) -> None:
    shaped = {model.name: set(model.shaped) for model in served.app.table.all()}
    assert shaped == {
        "plain": {"denoise"},
        "levels": {"denoise"},
        "fixed": {"denoise"},
        "whole": {"denoise"},
        "code": {"encode", "decode", "reconstruct"},
    }
    assert all(model.batchers.keys() == model.shaped.keys() for model in served.app.table.all())


def test_runs_of_small_images_have_more_rows_than_those_of_tiles(served: Served) -> None:
    queues = {
        model.name: model.shaped["denoise"].batcher.queue for model in served.app.table.all() if model.name != "code"
    }
    assert queues["plain"].rows_together((2, 2)) == 16
    assert queues["plain"].rows_together((32, 32)) <= 4
    assert queues["fixed"].rows_together((28, 28)) <= 4


@pytest.mark.parametrize("halo", [0, 2])
def test_a_halo_that_is_too_small_is_refused_at_load(repository: Path, halo: int) -> None:
    tiling = Tiling()
    tiling.CopyFrom(free_models.TILING)
    tiling.halo = halo
    free_models.write_denoiser(repository, tiling=tiling)
    with serving(repository, poll_seconds=0) as served:
        status, text = readyz(served)
        assert status == 503
        assert f"denoise.onnx: tiles with the halo {halo} of model.json differ by" in text


@pytest.mark.parametrize(
    "tiling",
    [
        Tiling(halo=7, multiple=4, tile=18),
        Tiling(halo=1, multiple=8, tile=10),
        Tiling(halo=2**30, multiple=2**30, tile=2**31 - 1),
        Tiling(halo=-1, multiple=1, tile=2),
        Tiling(halo=0, multiple=2, tile=1),
    ],
    ids=str,
)
def test_tiles_that_keep_nothing_are_refused_at_load(repository: Path, tiling: Tiling) -> None:
    free_models.write_denoiser(repository, tiling=tiling)
    with serving(repository, poll_seconds=0) as served:
        status, text = readyz(served)
        assert status == 503
        assert "expected a tile with room for a multiple beside its halo" in text


def test_tiles_whose_proof_takes_too_much_memory_are_refused_at_load(repository: Path) -> None:
    tiling = Tiling(halo=0, multiple=512, tile=512)
    free_models.write_denoiser(repository, tiling=tiling, buckets=(1,))
    with serving(repository, poll_seconds=0, max_run_bytes=128 * 1024**2) as served:
        status, text = readyz(served)
        assert status == 503
        assert "bytes of memory for the largest batch" in text


def test_a_bundle_that_promises_less_than_bits_says_so_in_its_answers(repository: Path) -> None:
    tiling = Tiling()
    tiling.CopyFrom(free_models.TILING)
    tiling.exact = False
    free_models.write_denoiser(repository, tiling=tiling)
    with serving(repository, poll_seconds=0) as served:
        call, answers = submit(served, "", [picture(64, 64)])
        assert answers.ended.wait(30)
        assert (call.tiles, call.exact) == (9, False)
        call, answers = submit(served, "", [picture(32, 32)])
        assert answers.ended.wait(30)
        assert (call.tiles, call.exact) == (0, True)


def test_a_graph_without_tiles_gets_no_image_that_needs_more_memory_than_allowed(repository: Path) -> None:
    free_models.write_denoiser(repository, whole=True, buckets=(1,))
    with serving(repository, poll_seconds=0, max_run_bytes=64 * 1024**2) as served:
        call, answers = submit(served, "", [picture(1024, 1024)])
        assert answers.status is not None
        assert "expected images of at most 524288 pixels" in call.problem
        assert outputs(served, "", picture(300, 300))


def test_pixels_of_all_requests_are_bounded_by_a_setting(repository: Path) -> None:
    free_models.write_denoiser(repository)
    with serving(repository, poll_seconds=0, max_queue_pixels=5000) as served:
        room = served.app.table.get("free", "").shaped["denoise"].room
        room.take("other", 4000, "images")
        call, answers = submit(served, "free", [picture(32, 32)])
        assert answers.status is not None
        assert answers.status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "the limit of 5000 leaves no room for 1024 more" in call.problem
        room.give("other", 4000)
        assert outputs(served, "free", picture(32, 32))
        assert not room.taken
