"""The version records of a server, one per version, the snapshot that they make, and loads begun ahead of a record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from server.models.job_thread import run_in_thread
from server.models.lifecycle import Attempt, Fingerprint, Key, State, Unavailable, VersionRecord
from server.models.repository import Repository
from server.models.table import ServedModel, Snapshot

Record: TypeAlias = VersionRecord[ServedModel]
Load: TypeAlias = tuple[Attempt, Future[ServedModel]]


class Records(dict[Key, Record]):
    """Records by name and version; not thread-safe."""

    def __init__(self) -> None:
        super().__init__()
        self._by_name: dict[str, dict[Key, Record]] = {}

    def __setitem__(self, key: Key, record: Record) -> None:
        super().__setitem__(key, record)
        self._by_name.setdefault(key[0], {})[key] = record

    def __delitem__(self, key: Key) -> None:
        super().__delitem__(key)
        of_name = self._by_name[key[0]]
        del of_name[key]
        if not of_name:
            del self._by_name[key[0]]

    def find_or_add(self, key: Key) -> Record:
        """Record of a version, created when there is none."""
        if key not in self:
            self[key] = VersionRecord(key)
        return self[key]

    def of(self, name: str) -> list[Record]:
        """Records of one model, in a list of their own."""
        return list(self._by_name.get(name, {}).values())

    def serving(self, name: str) -> dict[int, ServedModel]:
        """Versions of one model that serve."""
        return {record.key[1]: record.serving for record in self.of(name) if record.serving is not None}

    def shown(self, name: str) -> list[tuple[object, ...]]:
        """What a snapshot shows of one model, to notice when another one is due."""
        return [(each.key, each.state, each.reason, each.note, each.served) for each in self.of(name)]

    def pending(self, name: str) -> list[Future[Any]]:
        """Loads and comparisons of one model whose outcome has not been taken yet."""
        comparisons = [record.comparison.same for record in self.of(name) if record.comparison is not None]
        of_both = (each for record in self.of(name) for each in (record, record.successor) if each is not None)
        return [*comparisons, *(each.outcome for each in of_both if each.outcome is not None)]

    def is_unloaded(self, name: str) -> bool:
        """Whether an operator has unloaded a model."""
        return any(record.state is State.UNLOADED for record in self.of(name))

    def seconds_to_next(self, now: float) -> float | None:
        """Time until a version needs another look; None when none does."""
        pauses = (record.seconds_to_next(now) for record in self.values())
        return min((pause for pause in pauses if pause is not None), default=None)

    def snapshot(self, labels: Mapping[str, Mapping[str, int]]) -> Snapshot:
        """What serves, what does not and why; the labels of each model count where they point at what serves."""
        models: dict[str, dict[int, ServedModel]] = {}
        unavailable: dict[Key, Unavailable] = {}
        unloaded: set[str] = set()
        notes: dict[Key, str] = {}
        for (name, version), record in self.items():
            if record.serving is not None:
                models.setdefault(name, {})[version] = record.serving
                if record.note:
                    notes[name, version] = record.note
            elif record.state is State.UNLOADED:
                unloaded.add(name)
            else:
                unavailable[name, version] = Unavailable(record.state, record.reason)
        pointers = {
            name: {label: number for label, number in labels.get(name, {}).items() if number in serving}
            for name, serving in models.items()
        }
        return Snapshot(models, pointers, unavailable, frozenset(unloaded), notes)


class LoadsAhead:
    """Loads that begin before it is the turn of their version, so that all cores work while one load is awaited.

    They begin while the files of all loads under way have at most `max_bytes` together, as those of one version may.
    """

    def __init__(
        self, records: Records, repository: Repository, load: Callable[[Key, Attempt], ServedModel], max_bytes: int
    ) -> None:
        self._records = records
        self._repository = repository
        self._load = load
        self._max_bytes = max_bytes
        self._begun: dict[Key, Load] = {}
        self._bytes_under_way: dict[Future[ServedModel], int] = {}

    def walk(self, names: Sequence[str], width: int) -> Iterator[str]:
        """Models in their order, while the loads of the next ones begin, `width` at a time with that of the model."""
        looked_at = 0
        try:
            for number, name in enumerate(names):
                # Only what enters the window is looked at: the disk may be a slow one.
                looked_at = max(looked_at, number)
                while width > 1 and looked_at < min(number + width, len(names)):
                    if not self._begin_first(names[looked_at], due=looked_at == number):
                        break
                    looked_at += 1
                yield name
        finally:
            self._cancel()

    def take(self, key: Key, fingerprint: Fingerprint) -> Load:
        """The load of a version that is due: one that has begun, if its files are the same, or else a new one."""
        attempt, outcome = self._begun.pop(key, (None, None))
        if attempt is not None and outcome is not None:
            if attempt.fingerprint == fingerprint:
                return attempt, outcome
            attempt.cancelled = True
        return self._begin(key, fingerprint)

    def _begin_first(self, name: str, *, due: bool) -> bool:
        """Begin to load a model that has not had its turn yet; False where it has to wait for memory."""
        # What fails here fails when it is its turn, and is reported then.
        with suppress(Exception):
            key = None if self._records.of(name) else self._repository.first_candidate(name)
            if key is None:
                return True
            fingerprint = self._repository.fingerprint(key)
            # A copy, because loads end on their own threads.
            others = self._bytes_under_way.copy().items()
            needed = _bytes(fingerprint) + sum(size for outcome, size in others if not outcome.done())
            if needed > self._max_bytes and not due:
                return False
            self._begun[key] = self._begin(key, fingerprint)
        return True

    def _begin(self, key: Key, fingerprint: Fingerprint) -> Load:
        attempt = Attempt(fingerprint)
        outcome = run_in_thread("load", partial(self._load, key, attempt))
        self._bytes_under_way[outcome] = _bytes(fingerprint)
        outcome.add_done_callback(self._bytes_under_way.pop)
        return attempt, outcome

    def _cancel(self) -> None:
        """End the loads that were not due after all."""
        for attempt, _ in self._begun.values():
            attempt.cancelled = True
        self._begun.clear()


def _bytes(fingerprint: Fingerprint) -> int:
    return sum(file.size_bytes for file in fingerprint if file is not None)
