"""Both clients against a real server: every method, concurrent calls, streams."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import fields
from typing import Any

import grpc
import numpy as np
import pytest
from hourglass_client import (
    AsyncClient,
    Client,
    HourglassError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    Retry,
    UnavailableError,
    requests,
)
from hourglass_client.answers import Denoised, Encoded

from tests.server.conftest import GOLDEN, TRANSPORTS, Served, metric, pixels, serving
from tests.server.models.test_manager import eventually

GREY, COLOUR = pixels(5), pixels(5, (8, 8, 3))
LATENTS = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
METHODS: dict[str, Callable[[Any], Any]] = {
    "encode": lambda client: client.encode(GREY, model="vae", posterior="sample", seed=1),
    "decode": lambda client: client.decode(LATENTS, model="vae", image_format="png"),
    "reconstruct": lambda client: client.reconstruct(GREY, model="fc-ae"),
    "denoise": lambda client: client.denoise(GREY / 255, model="denoiser", image_format="float32"),
    "sample": lambda client: client.sample(3, model="vae", seed=2, temperature=0.5, include_latents=True),
    "interpolate": lambda client: client.interpolate(
        from_images=GREY[:1], to_latents=LATENTS[0], steps=4, model="vae", interpolation="spherical"
    ),
    "edit": lambda client: client.edit({"brightness": 1.5}, latents=LATENTS, model="vae"),
    "classify": lambda client: client.classify(COLOUR, model="multitask"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(GOLDEN, poll_seconds=0) as served:
        yield served


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


def awaited(server: Served, use: Callable[[AsyncClient], Coroutine[Any, Any, Any]], **settings: Any) -> Any:
    """The result of `use` on an asynchronous client."""

    async def inside() -> Any:
        async with AsyncClient(server.address, **settings) as client:
            return await use(client)

    return asyncio.run(inside())


def values(answer: object) -> dict[str, object]:
    """An answer without the times of its serving."""
    return {field.name: getattr(answer, field.name) for field in fields(answer) if field.name != "info"}


@pytest.mark.parametrize("method", METHODS)
def test_both_clients_get_the_same_answer(client: Client, server: Served, method: str) -> None:
    blocking, later = METHODS[method](client), awaited(server, METHODS[method])
    np.testing.assert_equal(values(later), values(blocking))
    assert blocking.info.model_version == later.info.model_version == "1"
    assert any(len(value) for value in values(blocking).values() if isinstance(value, np.ndarray | tuple))


def test_both_clients_describe_the_models(client: Client, server: Served) -> None:
    names = ["denoiser", "fc-ae", "multitask", "vae"]
    assert [model.name for model in client.list_models()] == names
    assert [model.name for model in awaited(server, lambda later: later.list_models())] == names
    assert awaited(server, lambda later: later.get_model("vae")) == client.get_model("vae")


def test_async_failure_is_the_same_error(server: Served) -> None:
    with pytest.raises(NotFoundError, match="vae"):
        awaited(server, lambda later: later.encode(GREY, model="absent"))


def test_no_answer_in_time_says_what_to_do(client: Client) -> None:
    # Occasionally the server reports the deadline first.
    with pytest.raises(TimeoutError, match=r"no answer within the timeout: allow more time|The deadline (has )?passed"):
        client.sample(1024, model="vae", image_format="png", timeout_seconds=0.001)


@pytest.mark.parametrize("seconds", [math.inf, 1e10])
def test_a_timeout_without_end_is_no_deadline(client: Client, server: Served, seconds: float) -> None:
    """gRPC would take either for a time that has passed."""
    expected = client.list_models()
    assert client.list_models(timeout_seconds=seconds) == expected
    assert awaited(server, lambda later: later.list_models(), timeout_seconds=seconds) == expected
    assert [name for name, _ in client.stream(streamed(0), timeout_seconds=seconds)] == ["denoise", "wrong"]


def test_a_timeout_that_is_no_number_is_refused(client: Client) -> None:
    for call in (lambda: client.list_models(timeout_seconds=math.nan), lambda: next(endless(client, math.nan))):
        with pytest.raises(InvalidArgumentError, match=r"timeout_seconds: expected seconds, .*, got nan"):
            call()


def endless(client: Client, timeout_seconds: float) -> Iterator[tuple[str, object]]:
    return client.stream(
        ((str(number), requests.sample(1, model="vae")) for number in range(10**9)), timeout_seconds=timeout_seconds
    )


def test_async_client_gives_up_in_time() -> None:
    async def call() -> None:
        async with AsyncClient("127.0.0.1:1", timeout_seconds=0.5, retry=Retry(attempts=2)) as later:
            await later.list_models()

    with pytest.raises(UnavailableError):
        asyncio.run(call())


def test_map_calls_the_server(client: Client) -> None:
    batches = [pixels(count, seed=count) for count in range(1, 20)]
    answers = list(client.map(lambda batch: client.encode(batch, model="fc-ae"), batches, in_flight=6))
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_array_equal(answer.latents, client.encode(batch, model="fc-ae").latents)


def streamed(count: int) -> Iterator[tuple[str, requests.Request]]:
    for number in range(count):
        yield f"encode {number}", requests.encode(pixels(2, seed=number), model="vae")
    yield "denoise", requests.denoise(GREY, model="denoiser")
    yield "wrong", requests.denoise(GREY, model="vae")


def check(client: Client, answers: Iterable[tuple[str, object]], count: int) -> None:
    named = dict(answers)
    assert len(named) == count + 2
    assert isinstance(named["denoise"], Denoised)
    assert isinstance(named["wrong"], HourglassError)
    assert named["wrong"].code is grpc.StatusCode.FAILED_PRECONDITION
    for number in range(count):
        answer = named[f"encode {number}"]
        assert isinstance(answer, Encoded)
        np.testing.assert_array_equal(answer.latents, client.encode(pixels(2, seed=number), model="vae").latents)


def test_stream_answers_every_item_and_fails_one_alone(client: Client) -> None:
    check(client, client.stream(streamed(40)), 40)


def test_async_stream_answers_every_item_and_fails_one_alone(client: Client, server: Served) -> None:
    async def later_items() -> AsyncIterator[tuple[str, requests.Request]]:
        for item in streamed(40):
            yield item

    async def collect(later: AsyncClient) -> list[tuple[str, object]]:
        return [answer async for answer in later.stream(later_items())]

    check(client, awaited(server, collect), 40)


def broken() -> Iterator[tuple[str, requests.Request]]:
    yield "good", requests.encode(GREY, model="vae")
    raise OSError("the disk is gone")


def test_stream_raises_what_its_inputs_raise(client: Client) -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        list(client.stream(broken()))


def test_async_stream_raises_what_its_inputs_raise(server: Served) -> None:
    async def later_items() -> AsyncIterator[tuple[str, requests.Request]]:
        for item in broken():
            yield item

    async def collect(later: AsyncClient) -> list[tuple[str, object]]:
        return [answer async for answer in later.stream(later_items())]

    with pytest.raises(OSError, match="the disk is gone"):
        awaited(server, collect)


def test_a_closed_stream_ends(client: Client) -> None:
    answers = client.stream((str(number), requests.sample(1, model="vae")) for number in range(10**9))
    assert len([next(answers) for _ in range(5)]) == 5
    answers.close()


def test_stream_keeps_its_deadline(client: Client) -> None:
    with pytest.raises(TimeoutError):
        list(endless(client, 0.3))


def test_stream_to_an_unreachable_server_is_unavailable() -> None:
    with Client("127.0.0.1:1") as unreachable, pytest.raises(UnavailableError):
        list(unreachable.stream(streamed(1)))


@pytest.mark.parametrize(("model", "images"), [("vae", GREY), ("multitask", COLOUR)], ids=["grey", "colour"])
def test_one_image_needs_no_batch_axis(client: Client, model: str, images: np.ndarray) -> None:
    expected = client.encode(images[:1], model=model).latents
    forms = [images[0], images[0] / 255] + ([images[0, ..., 0]] if model == "vae" else [])
    for one in forms:
        np.testing.assert_array_equal(client.encode(one, model=model).latents, expected)
    for wrong in (images[0, 1:], images[0][np.newaxis, np.newaxis, 0]):
        with pytest.raises(InvalidArgumentError, match=r"\(N, 8, 8, \d\) or one image \(8, 8, \d\), got"):
            client.encode(wrong, model=model)


def test_a_version_may_be_a_number(client: Client) -> None:
    assert client.encode(GREY[:1], model="vae", version=1).info.model_version == "1"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_too_much_for_one_request_leads_to_map(transport: str) -> None:
    with (
        serving(GOLDEN, transport=transport, max_message_bytes=100_000, max_request_rows=9, poll_seconds=0) as served,
        Client(served.address) as client,
    ):
        with pytest.raises(ResourceExhaustedError, match=r"larger than the server accepts \(1.* vs. 100000\): .* map"):
            client.encode(pixels(2_000), model="vae")
        with pytest.raises(InvalidArgumentError, match=r"1 to 9 images a request, got 10: .* with map"):
            client.encode(pixels(10), model="vae")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_several_servers_share_the_load_until_one_stops(transport: str) -> None:
    servers = (serving(GOLDEN, transport=transport, poll_seconds=0) for _ in range(2))
    with next(servers) as first, next(servers) as second, Client([first.address, second.address]) as client:
        # One connection may be ready before the other.
        eventually(lambda: client.encode(GREY, model="vae") and encoded(first) > 0 < encoded(second))
        second.app.stop()
        for _ in range(20):
            client.encode(GREY, model="vae")
        second.app.stop = lambda: None  # it has stopped already


def encoded(server: Served) -> float:
    return metric(server, "autoencoder_requests_total", method="Encode", code="OK")
