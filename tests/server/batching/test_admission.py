"""One caller floods: it is refused, the others are not, whether tokens or addresses tell them apart."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc
from google.rpc.error_details_pb2 import RetryInfo
from hypothesis import given
from hypothesis import strategies as st

from server.batching.admission import Admission
from server.batching.entry import Backlog, Entry
from server.batching.row_queue import RowQueue
from server.calls.call import FOREVER, Call
from server.errors import OverloadedError
from tests.server.conftest import Served, images, metric, serving, write_slow_denoiser
from tests.server.test_statuses import detail

FLOODER, POLITE = "flooder-token-00001", "polite-token-000001"
QUEUE = {"max_queue_rows": 256, "max_request_rows": 64, "concurrent_runs": 1}
BATCH = pb.DenoiseRequest(images=images(np.zeros((16, 32, 32, 1), np.uint8)), image_format=pb.IMAGE_FORMAT_NONE)
POLITE_SECONDS = 20.0
SMALL = pb.DenoiseRequest(images=images(np.zeros((4, 32, 32, 1), np.uint8)), image_format=pb.IMAGE_FORMAT_NONE)


@contextmanager
def flooding(channel: grpc.Channel, token: str | None, timeout: float | None = None) -> Iterator[Counter[str]]:
    """Hold four times as many rows open as may wait, from one caller, until the block ends."""
    stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
    codes: Counter[str] = Counter()
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            done = stub.Denoise.future(BATCH, metadata=bearer(token), timeout=timeout)
            codes[done.code().name] += 1
            if done.code() is not grpc.StatusCode.OK:
                hints.append(done.exception())
                time.sleep(0.02)

    hints: list[grpc.RpcError] = []
    threads = [threading.Thread(target=call) for _ in range(64)]
    for thread in threads:
        thread.start()
    try:
        yield codes
    finally:
        over.set()
        for thread in threads:
            thread.join()
    of_this_caller = [error for error in hints if "rows of this caller are queued" in error.details()]
    assert of_this_caller
    assert all(detail(error, RetryInfo).retry_delay.ToNanoseconds() > 0 for error in of_this_caller)


def bearer(token: str | None) -> tuple[tuple[str, str], ...]:
    return () if token is None else (("authorization", f"Bearer {token}"),)


def polite_calls(channel: grpc.Channel, token: str | None) -> Counter[str]:
    """What becomes of a caller that sends a little, one request after the other."""
    stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
    calls = (stub.Denoise.future(SMALL, timeout=POLITE_SECONDS, metadata=bearer(token)) for _ in range(12))
    return Counter(call.code().name for call in calls)


def wait_until_crowded(served: Served, flood: Counter[str]) -> None:
    end = time.monotonic() + 20
    while flood["RESOURCE_EXHAUSTED"] < 64:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert metric(served, "autoencoder_queue_rows") > 0


@pytest.mark.parametrize("flood_seconds", [None, POLITE_SECONDS, POLITE_SECONDS / 4], ids=["none", "equal", "shorter"])
def test_tokens_tell_callers_apart(repository: Path, transport: str, flood_seconds: float | None) -> None:
    write_slow_denoiser(repository)
    tokens = repository.parent / "tokens"
    tokens.write_text(f"inference {FLOODER}\ninference {POLITE}\n")
    with (
        serving(repository, transport=transport, token_file=tokens, **QUEUE) as served,
        flooding(served.channel, FLOODER, flood_seconds) as flood,
    ):
        wait_until_crowded(served, flood)
        started = time.monotonic()
        assert polite_calls(served.channel, POLITE) == {"OK": 12}
        # By deadlines alone each would wait until it is as urgent as the flood: 180 s in all where that has a quarter.
        assert time.monotonic() - started < 5 * POLITE_SECONDS


def test_addresses_tell_callers_apart(repository: Path, transport: str) -> None:
    write_slow_denoiser(repository)
    with serving(repository, transport=transport, host="::", lame_duck_seconds=0, **QUEUE) as served:
        port = served.address.rpartition(":")[2]
        with (
            grpc.insecure_channel(f"127.0.0.1:{port}") as one,
            grpc.insecure_channel(f"[::1]:{port}") as other,
            flooding(one, None) as flood,
        ):
            wait_until_crowded(served, flood)
            assert polite_calls(other, None) == {"OK": 12}


def test_it_can_be_turned_off(repository: Path, transport: str) -> None:
    write_slow_denoiser(repository)
    with serving(repository, transport=transport, fair_queue=False, **QUEUE) as served:
        calls = [served.stub.Denoise.future(BATCH, timeout=60) for _ in range(40)]
        refused = [call.exception().details() for call in calls if call.code() is not grpc.StatusCode.OK]
    assert refused
    assert all("rows are queued for this model" in words for words in refused)


class Nobody:
    """Where answers and drops go that nobody looks at."""

    def dropped(self, reason: str, rows: int) -> None:
        """Hear nothing."""

    def send(self, token: object, payload: bytes) -> None:
        """Hear nothing."""

    def fail(self, token: object, status: object) -> None:
        """Hear nothing."""


class Door:
    """An empty queue for a hundred rows, and who is let in."""

    def __init__(self) -> None:
        self.backlog = Backlog(100, shared=True)
        self.queue = RowQueue(self.backlog, 8)
        self.entries: list[Entry] = []
        self._admission = Admission(self.backlog, self.queue, Nobody())

    def knock(self, caller: str, rows: int = 1, deadline: float = FOREVER) -> bool:
        call = Call("Double", 0, deadline, (), Nobody(), None, lambda *_: None)
        call.peer = f"test:{caller}:1"
        entry = Entry(call, bytes(rows), rows, lambda _: None)
        try:
            self._admission.check(entry, 0, 0, 0.001)
        except OverloadedError:
            return False
        self.queue.push(entry, 0)
        self.entries.append(entry)
        return True

    def fill(self, caller: str, deadline: float = FOREVER) -> int:
        before = self.backlog.rows
        while self.knock(caller, 1, deadline):
            pass
        return self.backlog.rows - before


def test_each_flood_leaves_as_much_as_it_takes() -> None:
    door = Door()
    # Half is free for all, and of the other half one caller gets one half.
    assert door.fill("a") == 75
    assert door.fill("b") == 12
    assert door.fill("c") == 6
    assert not door.knock("d", 4)
    assert door.knock("d", 3)
    assert door.knock("e")


def test_time_is_shared_like_room() -> None:
    """Forty rows run within 40 ms: as many as may wait of those who have no more time than that."""
    door = Door()
    assert door.fill("a", 0.0401) == 30
    # Of those of others only as many go first as take their turns until then.
    assert door.fill("b", 0.0401) == 17
    assert door.fill("c", 0.0401) == 12
    # Who asks for little finds room however much waits, who has more time too.
    assert door.knock("d", 2, 0.0201)
    assert door.knock("e", 2, 0.0201)
    assert door.knock("f", 15, 0.2)


def test_a_caller_alone_may_fill_what_one_request_asks_for() -> None:
    door = Door()
    assert door.knock("a", 100)
    assert not door.knock("a")


def test_large_requests_share_like_small_ones() -> None:
    door = Door()
    assert door.knock("a", 45)
    # It would leave nothing to anybody.
    assert not door.knock("a", 50)
    assert door.knock("b", 20)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 30), st.integers(0, 5)), max_size=60))
def test_the_books_balance_whatever_comes_and_goes(steps: list[tuple[str, int, int]]) -> None:
    door = Door()
    for caller, rows, taken in steps:
        door.knock(caller, rows)
        if taken == 5 and door.entries:
            door.queue.drop(door.entries[len(door.entries) // 2])
        elif taken:
            door.queue.take(0, taken)
        held = Counter()
        for entry in door.entries:
            held[entry.caller] += entry.waiting
        del held[""]
        assert door.backlog.held == {caller: rows for caller, rows in held.items() if rows}
        assert 0 <= door.backlog.rows <= 100
