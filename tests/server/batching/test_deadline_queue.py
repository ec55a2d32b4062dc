"""Earliest deadline first, and heaps that do not keep dropped entries."""

from server.batching.deadline_queue import compact, urgent_rows
from server.batching.entry import Backlog, Entry, Heap
from server.batching.row_queue import RowQueue
from server.calls.call import FOREVER, Call


def entry(deadline: float, rows: int = 1) -> Entry:
    call = Call("Double", 0, deadline, (), None, None, lambda *_: None)
    made = Entry(call, bytes(rows), rows, lambda *_: None)
    made.waiting = rows
    return made


def test_the_earliest_deadline_leaves_first() -> None:
    queue = RowQueue(Backlog(100, shared=False), 1)
    for deadline in (9.0, FOREVER, 3.0, 6.0, 100.0):
        queue.push(entry(deadline), 0.0)
    # Without a deadline a call queues as if it had 30 s, and so does one with more.
    left = [queue.take(0.0, 1)[0][0][0].call.deadline for _ in range(5)]
    assert left == [3.0, 6.0, 9.0, FOREVER, 100.0]


def test_only_rows_with_an_earlier_deadline_run_before() -> None:
    queue = RowQueue(Backlog(100, shared=False), 8)
    for deadline, rows in ((9.0, 1), (FOREVER, 2), (3.0, 4)):
        queue.push(entry(deadline, rows), 0.0)
    before = {deadline: queue.rows_before(entry(deadline).call, 1) for deadline in (1.0, 3.0, 8.0, 9.0, FOREVER)}
    assert before == {1.0: 0, 3.0: 4, 8.0: 4, 9.0: 5, FOREVER: 5}
    assert queue.most_rows_before() == 5


def test_waiting_rows_are_counted_by_deadline() -> None:
    heap: Heap = [(deadline, number, entry(deadline, 2)) for number, deadline in enumerate((1.0, 2.0, 3.0))]
    assert urgent_rows(heap, 2.0) == 4


def test_a_heap_of_dropped_entries_is_compacted() -> None:
    heap: Heap = [(float(number), number, entry(1.0)) for number in range(200)]
    for _, _, each in heap[:190]:
        each.dropped = True
    compact(heap, 100)
    assert len(heap) == 200
    compact(heap, 10)
    assert [number for _, number, _ in heap] == list(range(190, 200))
