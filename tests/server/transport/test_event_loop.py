"""Answers handed to an event loop, and calls gathered on it."""

import asyncio
import threading
from unittest.mock import patch

from server.batching.gather import GatherPolicy
from server.transport.event_loop import Drain, LoopReplies, Pending, resolve

POLICY = GatherPolicy(lone_turns=2, quiet_turns=5, max_turns=64)


def test_answers_from_another_thread_wake_the_loop_once() -> None:
    delivered: list[tuple[int, bytes]] = []

    async def run() -> int:
        replies = LoopReplies[int, bytes](lambda token, result: delivered.append((token, result)))
        loop = asyncio.get_running_loop()
        with patch.object(loop, "call_soon_threadsafe", wraps=loop.call_soon_threadsafe) as wake:
            other = threading.Thread(target=lambda: [replies.put([(each, b"x"), (-each, b"y")]) for each in (1, 2)])
            other.start()
            # The loop is blocked meanwhile, so that all answers wait for it.
            other.join()
            assert not delivered
            wakes = wake.call_count
            await asyncio.sleep(0)
        return wakes

    assert asyncio.run(run()) == 1
    assert delivered == [(1, b"x"), (-1, b"y"), (2, b"x"), (-2, b"y")]


def test_answers_on_the_loop_are_delivered_at_once() -> None:
    async def run() -> bytes:
        token: Pending = asyncio.get_running_loop().create_future()
        LoopReplies(resolve).put([(token, b"first"), (token, b"too late")])
        result = token.result()
        assert isinstance(result, bytes)
        return result

    assert asyncio.run(run()) == b"first"


def test_answers_after_the_end_of_the_loop_are_dropped() -> None:
    delivered: list[tuple[int, bytes]] = []

    async def run() -> LoopReplies[int, bytes]:
        return LoopReplies(lambda token, result: delivered.append((token, result)))

    replies = asyncio.run(run())
    # An exception of the thread would fail the test.
    other = threading.Thread(target=lambda: [replies.put([(1, b"x")]) for _ in range(2)])
    other.start()
    other.join()
    assert not delivered


def turns_until_run(calls: list[int]) -> list[int]:
    """Turns after which each batch ran, for calls that arrive in these turns."""
    ran: list[int] = []

    async def run() -> None:
        turn = 0

        def run_ready() -> bool:
            ran.append(turn)
            return False

        drain = Drain(run_ready, POLICY)
        for turn in range(max(calls) + 10):
            for _ in range(calls.count(turn)):
                drain.add_call()
            await asyncio.sleep(0)

    asyncio.run(run())
    return ran


def test_lone_call_waits_two_turns_and_calls_in_company_five() -> None:
    assert turns_until_run([0]) == [1]
    assert turns_until_run([0, 0]) == [4]
    assert turns_until_run([0, 1, 3]) == [7]


def test_calls_without_a_pause_leave_in_the_end() -> None:
    assert turns_until_run(list(range(100)))[0] == 63


def test_what_is_left_runs_in_the_next_turn() -> None:
    ran: list[int] = []

    async def run() -> None:
        drain = Drain(lambda: ran.append(turn) or len(ran) < 3, POLICY)
        drain.schedule()
        for turn in range(20):  # noqa: B007 (the drain reads it)
            await asyncio.sleep(0)

    asyncio.run(run())
    assert ran == [1, 2, 3]
