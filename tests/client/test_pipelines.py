"""Ordered parallel map: order, bounded memory, failure, early end; the same for threads and coroutines."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from time import sleep

import pytest
from hourglass_client import AsyncClient, Client, InvalidArgumentError


class Work:
    """Answers later inputs sooner, and records the largest number of concurrent calls."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = 0

    def __call__(self, number: int) -> int:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        sleep(0.002 * (5 - number % 5))
        with self.lock:
            self.now -= 1
        return number * number

    async def later(self, number: int) -> int:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.002 * (5 - number % 5))
        self.now -= 1
        return number * number


def counted(taken: list[int], end: int) -> Iterator[int]:
    for number in range(end):
        taken.append(number)
        yield number


def test_answers_are_in_order_and_concurrency_is_bounded() -> None:
    work = Work()
    assert list(Client.map(work, range(50), in_flight=4)) == [number**2 for number in range(50)]
    assert 2 <= work.most <= 4


def test_inputs_are_taken_as_answers_are() -> None:
    taken: list[int] = []
    answers = Client.map(Work(), counted(taken, 10**9), in_flight=3)
    assert [next(answers) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(taken) <= 5 + 3
    answers.close()


def test_first_failure_ends_it() -> None:
    def divide(number: int) -> float:
        return 1 / (3 - number)

    answers = Client.map(divide, range(100), in_flight=4)
    assert [next(answers) for _ in range(3)] == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(answers)
    with pytest.raises(StopIteration):
        next(answers)


def test_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    list(Client.map(Work(), range(7), progress=True, total=7))
    assert "7/7" in capsys.readouterr().err


def test_coroutines_are_in_order_and_concurrency_is_bounded() -> None:
    async def collect() -> list[int]:
        return [answer async for answer in AsyncClient.map(work.later, range(50), in_flight=4)]

    work = Work()
    assert asyncio.run(collect()) == [number**2 for number in range(50)]
    assert 2 <= work.most <= 4


def test_coroutines_over_an_asynchronous_iterator_leave_no_task_when_closed() -> None:
    async def numbers() -> AsyncIterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    async def three() -> list[int]:
        answers = AsyncClient.map(work.later, numbers(), in_flight=4)
        found = [await anext(answers) for _ in range(3)]
        await answers.aclose()
        assert len(asyncio.all_tasks()) == 1
        return found

    work = Work()
    assert asyncio.run(three()) == [0, 1, 4]


def test_an_answer_does_not_wait_for_the_next_input() -> None:
    answered = threading.Event()

    def inputs() -> Iterator[int]:
        yield 2
        assert answered.wait(60)
        yield 3

    answers = Client.map(lambda number: number * number, inputs(), in_flight=64)
    assert next(answers) == 4
    answered.set()
    assert list(answers) == [9]


def test_coroutines_do_not_wait_for_the_next_input() -> None:
    async def square(number: int) -> int:
        return number * number

    async def found() -> list[int]:
        answered = asyncio.Event()

        async def inputs() -> AsyncIterator[int]:
            yield 2
            await answered.wait()
            yield 3

        answers = AsyncClient.map(square, inputs(), in_flight=64)
        first = await asyncio.wait_for(anext(answers), 60)
        answered.set()
        return [first, *[answer async for answer in answers]]

    assert asyncio.run(found()) == [4, 9]


def test_closing_early_waits_for_no_input() -> None:
    never = threading.Event()

    def inputs() -> Iterator[int]:
        yield 1
        never.wait()

    answers = Client.map(lambda number: number, inputs(), in_flight=4)
    assert next(answers) == 1
    answers.close()
    never.set()


def test_a_failing_input_raises_after_the_answers_before_it() -> None:
    def inputs() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("no more disk")

    found: list[int] = []
    with pytest.raises(OSError, match="no more disk"):
        found.extend(Client.map(lambda number: number, inputs(), in_flight=4))
    assert found == [1, 2]


def test_a_failing_asynchronous_input_raises_after_the_answers_before_it() -> None:
    found: list[int] = []

    async def inputs() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise OSError("no more disk")

    async def collect() -> None:
        async for answer in AsyncClient.map(Work().later, inputs(), in_flight=4):
            found.append(answer)  # noqa: PERF401 (keeps the answers before the failure)

    with pytest.raises(OSError, match="no more disk"):
        asyncio.run(collect())
    assert found == [1, 4]


def test_coroutines_answer_before_later_inputs_are_taken() -> None:
    taken: list[int] = []

    async def square(number: int) -> int:
        return number * number

    async def first() -> int:
        answers = AsyncClient.map(square, counted(taken, 10**9), in_flight=64)
        found = await anext(answers)
        await answers.aclose()
        return found

    assert asyncio.run(first()) == 0
    assert len(taken) < 64


@pytest.mark.parametrize("in_flight", [0, -1])
def test_in_flight_below_one_is_rejected(in_flight: int) -> None:
    async def first() -> None:
        await anext(AsyncClient.map(Work().later, [1], in_flight=in_flight))

    with pytest.raises(InvalidArgumentError, match="in_flight"):
        Client.map(Work(), [1], in_flight=in_flight)
    with pytest.raises(InvalidArgumentError, match="in_flight"):
        asyncio.run(first())
