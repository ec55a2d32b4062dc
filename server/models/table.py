"""The table of loaded models: finds the version to serve by name and version or label."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

from server.batching.batcher import Batcher
from server.batching.shaped import ShapedGraph
from server.errors import InvalidArgumentError, NotFoundError, ServingError, UnavailableError
from server.metrics.drift import Drift
from server.model_version import ModelVersion
from server.models.lifecycle import Key, State, Unavailable
from server.models.misplaced import Misplaced
from server.runtime.session import Interrupt

_MAX_LISTED = 10
"""Reasons or names in one text: gRPC carries 8 KiB of them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ServedModel(ModelVersion):
    """A version that has passed its checks, with the parts that run it."""

    batchers: Mapping[str, Batcher]
    """By signature."""
    shaped: Mapping[str, ShapedGraph]
    """By signature, those that take images of many sizes, or noise levels; their batchers are among the others."""
    drift: Drift
    interrupt: Interrupt
    """Shared by all its graphs."""
    self_test_errors: Mapping[str, float]
    """Largest error of the golden vectors, by signature."""
    self_test: Callable[[], object]
    """Raises if the graphs no longer reproduce their golden outputs."""

    @property
    def abandoned(self) -> bool:
        """Whether a run exceeded its time limit, after which the version serves nothing more."""
        return any(batcher.abandoned for batcher in self.batchers.values())

    @property
    def blocks_transport(self) -> bool:
        """Whether a run that does not end occupies the transport's thread, so that nothing at all is answered."""
        return any(each.abandoned and each.busy and each.policy.inline for each in self.batchers.values())

    @property
    def busy(self) -> bool:
        """Whether a graph is running."""
        return any(batcher.busy for batcher in self.batchers.values())

    def tick(self) -> int:
        """Count one look of the watchdog at the runs in progress; return the count of the longest one."""
        return max(batcher.tick() for batcher in self.batchers.values())

    def abandon(self, error: ServingError, reason: str) -> None:
        """End all calls that have rows in a graph, refuse others, and interrupt what runs."""
        for batcher in self.batchers.values():
            batcher.abandon(error, reason)
        self.interrupt.set()


@dataclass(frozen=True)
class Snapshot:
    """The table at one moment: immutable, only ever replaced."""

    models: Mapping[str, Mapping[int, ServedModel]]
    labels: Mapping[str, Mapping[str, int]]
    unavailable: Mapping[Key, Unavailable]
    """Versions that are known and do not serve, with the reason."""
    unloaded: frozenset[str] = frozenset()
    """Models on disk that an operator has unloaded."""
    notes: Mapping[Key, str] = field(default_factory=dict[Key, str])
    """What an operator should know of versions that serve."""
    misplaced: tuple[Misplaced, ...] = ()
    """What looks like a model on disk and is not served."""
    problem: str = ""
    """Why the repository cannot be read; empty when it can."""

    def reasons(self, name: str = "", version: str = "") -> list[str]:
        """Why versions do not serve, by name with the newest first: of every model, of one, or of one version."""
        return [
            f"{key[0]} version {key[1]}: {each.reason}"
            for key, each in sorted(self.unavailable.items(), key=lambda item: (item[0][0], -item[0][1]))
            if name in {"", key[0]} and version in {"", str(key[1])}
        ]

    def names(self) -> set[str]:
        """Models with versions that serve or do not."""
        return {*self.models, *(name for name, _ in self.unavailable)}

    def why_not_loaded(self, name: str) -> str | None:
        """Why a model does not serve what is on disk; None when it does."""
        if name in self.models:
            return listing([note for (model, _), note in sorted(self.notes.items()) if model == name]) or None
        if name in self.unloaded:
            return "it was unloaded while it was being loaded"
        misplaced = [f"{each.path}: {each.why}" for each in self.misplaced if each.model == name]
        reasons = [each.reason for (model, _), each in sorted(self.unavailable.items()) if model == name]
        return listing([*reversed(reasons), *misplaced]) or f"the repository has no version of {name!r} to serve"

    def usable(self, reasons: Mapping[ServedModel, str]) -> "Snapshot":
        """The same without versions that were abandoned; those that have a reason are unavailable for it."""
        if not any(served.abandoned for versions in self.models.values() for served in versions.values()):
            return self
        left = {
            name: {number: served for number, served in versions.items() if not served.abandoned}
            for name, versions in self.models.items()
        }
        models = {name: versions for name, versions in left.items() if versions}
        hung = {
            (name, number): Unavailable(State.HUNG, reasons[served])
            for name, versions in self.models.items()
            for number, served in versions.items()
            if served.abandoned and served in reasons
        }
        labels = {
            name: {label: number for label, number in found.items() if number in models.get(name, {})}
            for name, found in self.labels.items()
        }
        return replace(self, models=models, labels=labels, unavailable={**self.unavailable, **hung})


class ModelTable:
    """Finds the model for a request; switches versions without a gap."""

    def __init__(self) -> None:
        self._lock = Lock()
        # As the manager has published it; the other one is without versions that were abandoned since.
        self._published = self._snapshot = Snapshot({}, {}, {})
        self._routes: dict[tuple[str, str], ServedModel] = {}
        self._scanned = False
        self._withdrawn: dict[ServedModel, str] = {}

    @property
    def blocked(self) -> bool:
        """Whether a run that does not end keeps the transport from answering."""
        return any(served.blocks_transport for served in self._withdrawn)

    @property
    def snapshot(self) -> Snapshot:
        """What serves, what does not and why."""
        return self._snapshot

    @property
    def scanned(self) -> bool:
        """Whether the first scan of the repository has ended."""
        return self._scanned

    def replace(self, snapshot: Snapshot) -> None:
        """Switch to another set of versions; requests in flight keep theirs."""
        with self._lock:
            self._published = snapshot
            self._refresh()

    def withdraw(self, served: ServedModel, why: str) -> None:
        """Stop serving a version at once; may be called from any thread."""
        with self._lock:
            published = {each for versions in self._published.models.values() for each in versions.values()}
            kept = {each: reason for each, reason in self._withdrawn.items() if each.busy or each in published}
            self._withdrawn = {**kept, served: why}
            self._refresh()

    def note_scanned(self) -> None:
        """Note that the first scan has ended."""
        self._scanned = True

    def find(self, names: tuple[str, str]) -> ServedModel | None:
        """Model for a request's name and version, as `get`; None where that raises."""
        return self._routes.get(names)

    def get(self, name: str, version: str) -> ServedModel:
        """Model for a request's `model_name` and `model_version`, either of which may be empty.

        Raises:
            InvalidArgumentError: no name, and several models are loaded.
            NotFoundError: unknown model or version.
            UnavailableError: known, but loading or failed; or nothing is loaded yet.
        """
        served = self._routes.get((name, version))
        if served is None:
            raise self._missing(name, version)
        return served

    def all(self) -> list[ServedModel]:
        """Every loaded version, by name and then by version."""
        models = self._snapshot.models
        return [models[name][version] for name in sorted(models) for version in sorted(models[name])]

    def _refresh(self) -> None:
        self._snapshot = self._published.usable(self._withdrawn)
        self._routes = _routes(self._snapshot)

    def _missing(self, name: str, version: str) -> ServingError:
        snapshot = self._snapshot
        loaded = _listing(snapshot)
        reasons = snapshot.reasons(name, version if version.isdecimal() and name else "")
        if not name and len(snapshot.models) > 1:
            return InvalidArgumentError("model_name", f"expected one of the loaded models, got none: {loaded}")
        if not self._scanned and name not in snapshot.models:
            return UnavailableError("The server is starting: models are still being loaded.")
        # A known model with a wrong label or version is not found, however other versions of it do.
        known = name not in snapshot.models or (version.isdecimal() and reasons)
        if reasons and known:
            return UnavailableError(f"The model does not serve now: {listing(reasons)}.")
        if not snapshot.models:
            return UnavailableError("No model is loaded: put a bundle into the repository.")
        asked = f"model {name!r}" + (f" version {version!r}" if version else "")
        return NotFoundError(f"There is no {asked}: {loaded}.")


def _routes(snapshot: Snapshot) -> dict[tuple[str, str], ServedModel]:
    """Every (name, version) that a request may give, including empty ones and labels."""
    routes: dict[tuple[str, str], ServedModel] = {}
    for name, versions in snapshot.models.items():
        newest = versions[max(versions)]
        named = {"": newest} | {str(number): served for number, served in versions.items()}
        named |= {label: versions[number] for label, number in snapshot.labels.get(name, {}).items()}
        routes |= {(name, version): served for version, served in named.items()}
        if len(snapshot.models) == 1:
            routes |= {("", version): served for version, served in named.items()}
    return routes


def _listing(snapshot: Snapshot) -> str:
    entries = [
        f"{name} ({listing([*map(str, sorted(versions)), *sorted(snapshot.labels.get(name, {}))], ', ')})"
        for name, versions in sorted(snapshot.models.items())
    ]
    return f"loaded are {listing(entries) or 'none'}"


def listing(items: Sequence[str], between: str = "; ") -> str:
    """Join the first few of some texts, and say how many are left out."""
    more = len(items) - _MAX_LISTED
    return between.join([*items[:_MAX_LISTED], *([f"and {more:,} more"] if more > 0 else [])])
