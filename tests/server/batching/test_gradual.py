"""Room for the images of a model's requests: bounded in all and for each caller, and given back however they end."""

import numpy as np
import pytest

from server.batching.gradual import Room
from server.errors import InvalidArgumentError, OverloadedError, StatusCode
from tests.server.batching.shaped_harness import ShapedHarness, image


def test_one_caller_leaves_room_for_others() -> None:
    room = Room(100, 60, shared=True)
    room.take("one", 40, "images")
    with pytest.raises(OverloadedError, match="images of 40 pixels wait or run for this model, 40 of them of this"):
        room.take("one", 20, "images")
    room.take("other", 20, "images")
    room.give("one", 40)
    room.take("one", 40, "images")


def test_all_callers_together_are_bounded() -> None:
    room = Room(100, 60, shared=False)
    room.take("one", 60, "images")
    with pytest.raises(OverloadedError):
        room.take("other", 41, "images")
    room.take("other", 40, "images")


def test_an_empty_room_takes_what_a_request_may_have() -> None:
    room = Room(10, 60, shared=True)
    with pytest.raises(InvalidArgumentError, match="latents: expected at most 60 pixels"):
        room.take("one", 61, "latents")
    room.take("one", 60, "latents")
    assert room.taken == 60


@pytest.mark.parametrize("code", [StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED])
def test_requests_that_end_early_give_their_room_back(code: StatusCode) -> None:
    harness = ShapedHarness()
    harness.hold()
    call = harness.send("a", image(40, 40))
    assert harness.room.taken == 4 + 1600
    call.cancel(code)
    assert harness.room.taken == 4
    harness.graph.submit(call, [image(40, 40)], lambda _: None)
    assert harness.room.taken == 4
    harness.wait()
    harness.finish()
    assert harness.idle


class _TooLarge(np.ndarray):
    """An image that cannot be copied: there is no memory left."""

    def __array_function__(self, *_: object) -> object:
        raise MemoryError


def test_requests_that_cannot_be_made_give_their_room_back() -> None:
    harness = ShapedHarness()
    call = harness.send("a", image(3, 3).view(_TooLarge), image(3, 3))
    assert not call.open
    assert harness.recorder.failures == {"a": StatusCode.INTERNAL}
    assert harness.idle
