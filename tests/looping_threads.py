"""Threads that repeat their work until a block ends."""

import threading
from collections.abc import Callable, Iterable
from typing import Self


class LoopingThreads:
    """Runs each target on a thread of its own for as long as a `with` block; targets return when `over` is set."""

    def __init__(self, targets: Iterable[Callable[[], object]]) -> None:
        self.over = threading.Event()
        self._threads = [threading.Thread(target=target) for target in targets]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()
