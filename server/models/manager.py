"""What is on disk, and keeping the table in step with it: versions, labels, reloads, refusals."""

import gc
import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bundle import layout
from bundle.errors import BundleError
from server.metrics.registry import Metrics
from server.models.job_thread import Jobs
from server.models.labels import LabelReader
from server.models.loader import Loader, announce
from server.models.loads import Loads, Token
from server.models.refusals import Fingerprint, Key, Refusals, fingerprint_of, is_transient
from server.models.suspects import Suspects
from server.models.table import LOADING, ModelTable, ServedModel, Snapshot
from server.runtime.malloc import trim
from server.runtime.session import DeviceError

_LOGGER = logging.getLogger(__name__)


class ModelRepository:
    """Loads what the policy wants on a thread of its own, and switches the table when a version is ready.

    `policy` is latest (the newest version that passes its checks), all, or version numbers with commas between.
    """

    def __init__(
        self,
        folder: Path,
        policy: str,
        poll_seconds: float,
        loader: Loader,
        table: ModelTable,
        metrics: Metrics,
        changed: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._policy = policy
        self._poll_seconds = poll_seconds
        self._loader = loader
        self._table = table
        self._metrics = metrics
        self._changed = changed
        self._models: dict[str, dict[int, ServedModel]] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._unready: dict[Key, str] = {}
        self._refusals = Refusals()
        self._label_files = LabelReader()
        # Which load of a version is the one that serves.
        self._tokens: dict[Key, object] = {}
        # Versions that were withdrawn because a run does not end.
        self._hung: dict[Key, ServedModel] = {}
        self._withheld: set[str] = set()
        self._lost = False
        self._scanned = threading.Event()
        self._jobs = Jobs("repository", self._look_on, self._look, self._pause_seconds, self._guarded)
        self._loads = Loads(self._jobs, self._look_on)
        self._suspects = Suspects(self._jobs, self._find, self._condemn)

    def start(self) -> None:
        """Begin the first scan."""
        self._jobs.start()

    def close(self) -> None:
        """Load nothing more."""
        self._jobs.close()

    def wait_scanned(self, seconds: float) -> bool:
        """Wait for the first scan to end; whether it has."""
        return self._scanned.wait(seconds)

    @property
    def withheld(self) -> frozenset[str]:
        """Models that were unloaded on request."""
        return frozenset(self._withheld)

    def names(self) -> list[str]:
        """Models on disk, whether they serve or not."""
        return layout.model_names(self._folder)

    def rescan(self) -> None:
        """Look for changes soon, and at refused versions again."""
        self._jobs.put(self._look_again)

    def load(self, name: str) -> str | None:
        """Load a model, refused versions included; nothing when it serves, else why not."""
        self._jobs.wait_for(partial(self._release, name))
        while loads := self._loads.under_way(name):
            self._jobs.await_end(loads[0])
            self._jobs.wait_for(self._reconcile)
        snapshot = self._table.snapshot
        if name in snapshot.models:
            return None
        reasons = [why for (model, _), why in sorted(snapshot.unready.items()) if model == name]
        return "; ".join(reasons) or f"the repository has no version of {name!r} to serve"

    def unload(self, name: str) -> None:
        """Serve a model no more until it is loaded again; requests under way are answered."""
        self._jobs.wait_for(partial(self._withhold, name))

    def _look_on(self) -> None:
        """Look for the first time, or when a load has ended that took long."""
        self._guarded(self._reconcile)
        if self._table.scanned or self._loads.under_way():
            return
        # What has been made until now lives for ever: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        trim()
        self._table.note_scanned()
        self._changed()
        self._scanned.set()

    def _pause_seconds(self) -> float | None:
        """How long to wait for a job before looking again."""
        pauses = (self._poll_seconds or None, self._refusals.seconds_to_next(), 1.0 if self._hung else None)
        return min((pause for pause in pauses if pause is not None), default=None)

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:
            # A disk that comes and goes must not end the thread; what serves goes on serving.
            _LOGGER.exception("looking through %s failed", self._folder)

    def _look(self) -> None:
        self._reconcile()
        # What a flood has taken goes back when nobody waits for the milliseconds that this may take.
        if not self._metrics.requests_in_flight():
            trim()

    def _look_again(self) -> None:
        self._refusals.clear()
        self._reconcile()

    def _release(self, name: str) -> None:
        self._withheld.discard(name)
        self._refusals.keep(name, ())
        self._reconcile()

    def _withhold(self, name: str) -> None:
        self._withheld.add(name)
        self._reconcile()

    def _reconcile(self) -> None:
        """Load what is wanted and not there, drop what is there and not wanted."""
        lost = not self._folder.is_dir()
        if lost and not self._lost:
            _LOGGER.error("%s is no folder: nothing can be loaded, what serves goes on", self._folder)
        self._lost = lost
        if lost:
            return
        self._hung = {key: served for key, served in self._hung.items() if served.busy}
        names = set(layout.model_names(self._folder)) - self._withheld
        for name in sorted(names | set(self._models) | {name for name, _ in self._unready}):
            if self._jobs.closed:
                return
            # One model's trouble must not keep the others from being looked at.
            self._guarded(partial(self._reconcile_model, name, on_disk=name in names))

    def _reconcile_model(self, name: str, *, on_disk: bool) -> None:
        available = layout.versions(self._folder, name) if on_disk else []
        loaded = self._models.get(name, {})
        self._forget_reasons(name, available)
        chosen, wanted = self._choose(name, available, loaded)
        self._refusals.keep(name, wanted)
        self._loads.keep(name, wanted)
        labels = self._label_files.read(self._folder / name, chosen, self._labels.get(name, {}))
        if chosen != loaded or labels != self._labels.get(name, {}):
            self._switch(name, chosen, labels)
        else:
            self._publish()

    def _choose(
        self, name: str, available: list[int], loaded: dict[int, ServedModel]
    ) -> tuple[dict[int, ServedModel], set[int]]:
        """Versions that serve from now on, and those of which it matters whether they can."""
        chosen: dict[int, ServedModel] = {}
        wanted: set[int] = set()
        for version in self._candidates(available):
            wanted.add(version)
            served = loaded.get(version) or self._try(name, version)
            if served is not None:
                chosen[version] = served
            elif self._policy == "latest" and (name, version) in self._loads:
                # Until it is known what becomes of it, the older one serves.
                return {number: served for number, served in loaded.items() if number in available}, set(available)
            if chosen and self._policy == "latest":
                break
        return chosen, wanted

    def _candidates(self, available: list[int]) -> list[int]:
        """Versions to serve, the newest first."""
        if self._policy not in {"latest", "all"}:
            wanted = {int(number) for number in self._policy.split(",")}
            return sorted(wanted & set(available), reverse=True)
        return sorted(available, reverse=True)

    def _forget_reasons(self, name: str, available: list[int]) -> None:
        gone = [key for key in self._unready if key[0] == name and key[1] not in available]
        for key in gone:
            del self._unready[key]

    def _try(self, name: str, version: int) -> ServedModel | None:
        """Load a version, unless it has been refused as it is."""
        key = (name, version)
        fingerprint = fingerprint_of(layout.version_folder(self._folder, name, version))
        if self._jobs.closed or key in self._hung or self._refusals.stands(key, fingerprint):
            return None
        self._unready.setdefault(key, LOADING)
        self._publish()
        load = self._loads.take(key, fingerprint, partial(self._load, key))
        if load is None:
            return None
        try:
            served = load.outcome.result()
        except Exception as error:  # noqa: BLE001 (checks run what strangers have written)
            self._refuse(key, load.fingerprint, error)
            return None
        self._refusals.drop(key)
        self._unready.pop(key, None)
        self._tokens[key] = load.token
        return served

    def _load(self, key: Key, token: Token) -> ServedModel:
        report = partial(self._suspects.report, key, token)
        return self._loader.load(self._folder, *key, report, lambda: self._jobs.closed or not token.wanted)

    def _refuse(self, key: Key, fingerprint: Fingerprint, error: Exception) -> None:
        """Note and tell why a version does not serve."""
        if self._jobs.closed:
            return
        name, version = key
        later = ", and tried again soon" if is_transient(error) else ""
        if isinstance(error, (BundleError, DeviceError, OSError)):
            _LOGGER.error("%s version %d is refused%s: %s", name, version, later, error)
            self._unready[key] = str(error).replace(f"{self._folder}/", "")
        else:
            _LOGGER.error("%s version %d is refused%s", name, version, later, exc_info=error)
            self._unready[key] = f"its load has failed with {type(error).__name__}; the server's log has the reason"
        self._refusals.add(key, fingerprint, error)
        self._metrics.forget(name, str(version))
        self._publish()

    def _switch(self, name: str, chosen: dict[int, ServedModel], labels: dict[str, int]) -> None:
        """Serve another set of versions of a model."""
        before = self._models.pop(name, {})
        if chosen:
            self._models[name] = chosen
        self._labels[name] = labels
        for version, served in before.items():
            if chosen.get(version) is not served:
                served.drift.flush()
                self._metrics.forget(name, str(version))
                _LOGGER.info("%s version %d is unloaded", name, version)
        for version, served in chosen.items():
            if before.get(version) is not served:
                announce(self._metrics, served)
                _LOGGER.info("%s version %d serves on %s", name, version, served.provider)
        self._publish()
        trim()

    def _publish(self) -> None:
        """Show requests, readiness and health the present state."""
        models = {name: dict(versions) for name, versions in self._models.items()}
        self._table.replace(Snapshot(models, {name: dict(v) for name, v in self._labels.items()}, dict(self._unready)))
        self._changed()

    def hung(self, served: ServedModel, why: str) -> None:
        """Serve a version no more in which a run does not end, from any thread; it is made anew when the run has."""
        self._table.withdraw(served, why)
        self._changed()
        self._jobs.put(partial(self._replace_hung, served, why))

    def _replace_hung(self, served: ServedModel, why: str) -> None:
        key = (served.name, int(served.version))
        if self._models.get(served.name, {}).get(key[1]) is served:
            self._hung[key] = served
            self._withdraw(key, why)

    def _find(self, key: Key, token: object) -> ServedModel | None:
        """A version that serves, if it comes from that load."""
        return self._models.get(key[0], {}).get(key[1]) if self._tokens.get(key) is token else None

    def _condemn(self, key: Key) -> None:
        self._withdraw(key, "its session has failed and is being made anew")

    def _withdraw(self, key: Key, why: str) -> None:
        """Serve a version no more, and look whether it can be made anew."""
        name, version = key
        self._unready[key] = why
        rest = {number: served for number, served in self._models[name].items() if number != version}
        self._switch(name, rest, {label: number for label, number in self._labels[name].items() if number != version})
        self._reconcile()
