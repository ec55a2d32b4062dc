"""Requests that are recognised instead of parsed: the result must be the same as if they were parsed."""

import shutil
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb

from server.parse_cache import ParseCache
from tests.server.conftest import GOLDEN, Served, array, graph_run, images, pixels, serving, tensor
from tests.server.models.test_manager import eventually

ROUNDS = 40


def pixels_of(request: pb.EncodeRequest) -> bytes:
    return request.images.tensor.data


@pytest.fixture
def cache() -> ParseCache:
    return ParseCache(pb.EncodeRequest.FromString, pixels_of)


class Prepared:
    """In place of a prepared request and of the table that says which version serves."""

    repeats = True
    names = ("", "")

    def __init__(self, *, current: bool = True) -> None:
        self.table = self
        self.current = current
        self.asked = 0

    def served(self) -> str:
        return "served"

    def find(self, _: tuple[str, str]) -> str:
        self.asked += 1
        return "served" if self.current else "newer"


def encode(data: np.ndarray, name: str = "fc-ae", **more: int) -> bytes:
    return pb.EncodeRequest(model_name=name, images=images(data), **more).SerializeToString()


def test_other_data_in_the_same_template_is_found(cache: ParseCache) -> None:
    prepared = Prepared()
    first, second = pixels(1, seed=1), pixels(1, seed=2)
    assert not cache.find(None, encode(first))
    cache.learn(encode(first), prepared, first.tobytes())
    assert cache.find(None, encode(second)) == (prepared, "served", second.tobytes())


@pytest.mark.parametrize(
    "other",
    [
        encode(pixels(1), "fc-aa"),
        encode(pixels(1), posterior=pb.POSTERIOR_MEAN),
        encode(pixels(1)[..., 0]),
        encode(pixels(2)),
        b"",
    ],
    ids=["name", "more behind", "shape", "rows", "nothing"],
)
def test_another_template_is_not(cache: ParseCache, other: bytes) -> None:
    prepared = Prepared()
    cache.learn(encode(pixels(1)), prepared, pixels(1).tobytes())
    assert not cache.find(None, other)
    assert not prepared.asked


def test_a_request_that_does_not_repeat_is_not_kept(cache: ParseCache) -> None:
    once = Prepared()
    once.repeats = False
    cache.learn(encode(pixels(1)), once, pixels(1).tobytes())
    assert cache.size() == 0


def test_what_stands_behind_the_data_counts(cache: ParseCache) -> None:
    prepared = Prepared()
    message = partial(encode, pixels(1), posterior=pb.POSTERIOR_SAMPLE)
    cache.learn(message(seed=7), prepared, pixels(1).tobytes())
    assert not cache.find(None, message(seed=8))
    assert cache.find(None, message(seed=7))


def test_data_that_stand_elsewhere_too_are_not_mistaken(cache: ParseCache) -> None:
    prepared = Prepared()
    # An unknown field in front holds the same bytes as the image.
    black = np.zeros((1, 8, 8, 1), np.uint8)
    decoy = bytes([15 << 3 | 2, 64]) + bytes(64)
    cache.learn(decoy + encode(black), prepared, black.tobytes())
    assert not cache.find(None, decoy + encode(pixels(1)))
    for _ in range(64):
        cache.learn(decoy + encode(pixels(1)), prepared, pixels(1).tobytes())
    assert cache.find(None, decoy + encode(pixels(1, seed=5))) == (prepared, "served", pixels(1, seed=5).tobytes())


def test_a_field_given_twice_is_not_mistaken(cache: ParseCache) -> None:
    # The last one holds, as everywhere in Protocol Buffers.
    prepared = Prepared()
    twice = pb.EncodeRequest(images=images(pixels(1, seed=1))).SerializeToString() + encode(pixels(1, seed=2))
    cache.learn(twice, prepared, pixels(1, seed=1).tobytes())
    assert not cache.find(None, twice)


def test_a_request_for_a_version_that_is_gone_is_forgotten(cache: ParseCache) -> None:
    gone = Prepared(current=False)
    cache.learn(encode(pixels(1)), gone, pixels(1).tobytes())
    assert not cache.find(None, encode(pixels(1)))
    assert not cache.find(None, encode(pixels(1)))
    assert gone.asked == 1


def test_what_is_known_is_bounded(cache: ParseCache) -> None:
    big = Prepared()
    padding = bytes([15 << 3 | 2, 0x80, 0x10]) + bytes(2048)
    cache.learn(padding + encode(pixels(1)), big, pixels(1).tobytes())
    assert not cache.find(None, padding + encode(pixels(1)))
    for number in range(5000):
        cache.learn(encode(pixels(1), f"{number:05}"), Prepared(), pixels(1).tobytes())
    assert sum(cache.find(None, encode(pixels(1), f"{number:05}")) is not None for number in range(5000)) <= 4
    for number in range(1, 3000):
        cache.learn(encode(pixels(1), "x" * (number % 900), seed=number), Prepared(), pixels(1).tobytes())
    assert cache.size() <= 4 * 1024


@pytest.mark.parametrize("shape", [(1, 1024, 1025, 1), (1, 3, 5, 1)], ids=["large", "tiny"])
def test_what_is_too_large_or_too_small_for_a_trial_is_parsed(cache: ParseCache, shape: tuple[int, ...]) -> None:
    image = np.zeros(shape, np.uint8)
    cache.learn(encode(image), Prepared(), image.tobytes())
    assert cache.size() == 0


def test_every_request_is_answered_as_if_it_came_first(server: Served) -> None:
    rng = np.random.default_rng(0)
    grey, expected = {}, {}
    for seed in range(4):
        grey[seed] = pixels(1 + seed % 2, seed=seed)
        for model in ("fc-ae", "vae"):
            expected[model, seed] = graph_run("encode", model, grey[seed])[0]
    forms = (
        lambda batch: batch,
        lambda batch: batch[..., 0],
        lambda batch: (batch / 255).astype(np.float32),
        lambda batch: (batch / 255).astype(np.float16),
    )
    for _ in range(ROUNDS * 4):
        model, seed = rng.choice(["fc-ae", "vae"]), int(rng.integers(4))
        sent = forms[rng.integers(4)](grey[seed])
        answer = server.stub.Encode(pb.EncodeRequest(model_name=model, images=images(sent)))
        np.testing.assert_array_equal(array(answer.latents), expected[model, seed])
        assert answer.info.model_name == model


def test_values_are_checked_every_time(server: Served) -> None:
    good = np.full((1, 4), 0.5, np.float32)
    bad = good.copy()
    bad[0, 2] = np.nan
    for _ in range(3):
        server.stub.Decode(pb.DecodeRequest(model_name="fc-ae", latents=tensor(good)))
        with pytest.raises(grpc.RpcError, match="finite"):
            server.stub.Decode(pb.DecodeRequest(model_name="fc-ae", latents=tensor(bad)))


def test_a_drawn_seed_is_drawn_every_time(server: Served) -> None:
    request = pb.EncodeRequest(model_name="vae", images=images(pixels(1)), posterior=pb.POSTERIOR_SAMPLE)
    assert len({server.stub.Encode(request).seed for _ in range(5)}) == 5
    request.seed = 3
    assert {server.stub.Encode(request).seed for _ in range(5)} == {3}


def test_a_new_version_takes_over_requests_that_are_known(transport: str, repository: Path) -> None:
    shutil.copytree(GOLDEN / "fc-ae" / "1", repository / "fc-ae" / "1")
    request = pb.EncodeRequest(model_name="fc-ae", images=images(pixels(1)))
    with serving(repository, transport=transport, poll_seconds=0.05) as served:
        assert [served.stub.Encode(request).info.model_version for _ in range(3)] == ["1"] * 3
        shutil.copytree(GOLDEN / "fc-ae" / "1", repository / "fc-ae" / "2.tmp")
        version_two(repository / "fc-ae" / "2.tmp").rename(repository / "fc-ae" / "2")
        eventually(lambda: served.stub.Encode(request).info.model_version == "2")
        assert [served.stub.Encode(request).info.model_version for _ in range(3)] == ["2"] * 3


def version_two(folder: Path) -> Path:
    """The same bundle, as version 2."""
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace('"version": "1"', '"version": "2"'))
    return folder
