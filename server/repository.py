"""What is on disk, and keeping the table in step with it: versions, labels, reloads, refusals."""

import gc
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from pathlib import Path

from bundle import layout
from bundle.errors import BundleError
from server.errors import UnavailableError
from server.labels import read_labels
from server.loading import Loader, announce
from server.memory import hand_back
from server.metrics import Metrics
from server.models import LOADING, ModelTable, ServedModel, Snapshot
from server.refusals import Fingerprint, Key, Refusals, fingerprint_of, is_transient
from server.session import DeviceError

_LOGGER = logging.getLogger(__name__)
# A load under way ends at its next step, which may be a long one: the thread is a daemon and need not be awaited.
_CLOSE_SECONDS = 1.0


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
        # Which load of a version is the one that serves.
        self._tokens: dict[Key, object] = {}
        self._withheld: set[str] = set()
        self._lost = False
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._scanned = threading.Event()
        self._closed: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="repository", daemon=True)

    def start(self) -> None:
        """Begin the first scan."""
        self._thread.start()

    def close(self) -> None:
        """Load nothing more."""
        self._closed.set_result(None)
        self._jobs.put(None)
        self._thread.join(_CLOSE_SECONDS)

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
        self._await(partial(self._release, name))
        snapshot = self._table.snapshot
        if name in snapshot.models:
            return None
        reasons = [why for (model, _), why in sorted(snapshot.unready.items()) if model == name]
        return "; ".join(reasons) or f"the repository has no version of {name!r} to serve"

    def unload(self, name: str) -> None:
        """Serve a model no more until it is loaded again; requests under way are answered."""
        self._await(partial(self._withhold, name))

    def _await(self, job: Callable[[], None]) -> None:
        done: Future[None] = Future()

        def run() -> None:
            try:
                job()
            finally:
                done.set_result(None)

        self._jobs.put(run)
        wait((done, self._closed), return_when=FIRST_COMPLETED)
        if not done.done():
            raise UnavailableError("The server is stopping: it loads and unloads nothing more.")

    def _run(self) -> None:
        self._guarded(self._reconcile)
        # What has been made until now lives for ever: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        hand_back()
        self._table.note_scanned()
        self._changed()
        self._scanned.set()
        while True:
            try:
                job = self._jobs.get(timeout=self._pause_seconds())
            except queue.Empty:
                job = self._reconcile
            if job is None:
                return
            self._guarded(job)

    def _pause_seconds(self) -> float | None:
        """How long to wait for a job before looking again."""
        pauses = (self._poll_seconds or None, self._refusals.seconds_to_next())
        return min((pause for pause in pauses if pause is not None), default=None)

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:
            # A disk that comes and goes must not end the thread; what serves goes on serving.
            _LOGGER.exception("looking through %s failed", self._folder)

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
        names = set(layout.model_names(self._folder)) - self._withheld
        for name in sorted(names | set(self._models) | {name for name, _ in self._unready}):
            if self._closed.done():
                return
            # One model's trouble must not keep the others from being looked at.
            self._guarded(partial(self._reconcile_model, name, on_disk=name in names))

    def _reconcile_model(self, name: str, *, on_disk: bool) -> None:
        available = layout.versions(self._folder, name) if on_disk else []
        loaded = self._models.get(name, {})
        chosen: dict[int, ServedModel] = {}
        self._forget_reasons(name, available)
        wanted: set[int] = set()
        for version in self._candidates(available):
            wanted.add(version)
            served = loaded.get(version) or self._try(name, version)
            if served is not None:
                chosen[version] = served
                if self._policy == "latest":
                    break
        self._refusals.keep(name, wanted)
        labels = read_labels(self._folder / name, chosen, self._labels.get(name, {}))
        if chosen != loaded or labels != self._labels.get(name, {}):
            self._switch(name, chosen, labels)
        else:
            self._publish()

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
        if self._closed.done() or self._refusals.stands(key, fingerprint):
            return None
        self._unready.setdefault(key, LOADING)
        self._publish()
        token = object()
        try:
            served = self._loader.load(
                self._folder, name, version, partial(self._report, key, token), self._closed.done
            )
        except Exception as error:  # noqa: BLE001 (checks run what strangers have written)
            self._refuse(key, fingerprint, error)
            return None
        self._refusals.drop(key)
        self._unready.pop(key, None)
        self._tokens[key] = token
        return served

    def _refuse(self, key: Key, fingerprint: Fingerprint, error: Exception) -> None:
        """Note and tell why a version does not serve."""
        if self._closed.done():
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
        hand_back()

    def _publish(self) -> None:
        """Show requests, readiness and health the present state."""
        models = {name: dict(versions) for name, versions in self._models.items()}
        self._table.replace(Snapshot(models, {name: dict(v) for name, v in self._labels.items()}, dict(self._unready)))
        self._changed()

    def _report(self, key: Key, token: object, error: BaseException) -> None:
        """A session has failed: from any thread."""
        self._jobs.put(partial(self._recreate, key, token, error))

    def _recreate(self, key: Key, token: object, error: BaseException) -> None:
        """Take a version whose session has failed out of service, load it anew and test it again."""
        name, version = key
        loaded = self._models.get(name, {})
        # Every request of a dead session reports it, and some do when another one has taken its place.
        if version not in loaded or self._tokens.get(key) is not token:
            return
        _LOGGER.error("%s version %d is made anew, because a run has failed: %s", name, version, error)
        self._unready[key] = "its session has failed and is being made anew"
        rest = {number: served for number, served in loaded.items() if number != version}
        self._switch(name, rest, {label: number for label, number in self._labels[name].items() if number != version})
        self._reconcile()
