"""The version records of a server, one per version, and the snapshot of the model table that they make."""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, TypeAlias

from server.models.lifecycle import Key, State, Unavailable, VersionRecord
from server.models.table import ServedModel, Snapshot

Record: TypeAlias = VersionRecord[ServedModel]


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
