"""Model manager: a reconciler that keeps one lifecycle record per version in step with the files on disk."""

import gc
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from bundle.errors import BundleError
from server.metrics.registry import Metrics
from server.models.job_thread import SerialExecutor, run_in_thread
from server.models.lifecycle import Attempt, Fingerprint, Key, State, is_transient
from server.models.loader import Loader, announce
from server.models.records import Record, Records
from server.models.repository import Repository
from server.models.retest import Retests
from server.models.table import ModelTable, ServedModel
from server.runtime.malloc import trim
from server.runtime.session import DeviceError

_LOGGER = logging.getLogger(__name__)

# A load that takes longer continues while others start. Most take less: one after the other they do not disturb the
# times that are measured at warm-up.
_LOAD_PATIENCE_SECONDS = 5.0


class ModelManager:
    """Loads what the repository's policy selects and publishes what serves, on one thread.

    Each load has a thread of its own, so that a slow one delays no other. Only the manager's thread touches the
    records; the public methods may be called from any other thread. `on_change` is called after each new snapshot.
    """

    def __init__(
        self,
        repository: Repository,
        poll_seconds: float,
        loader: Loader,
        table: ModelTable,
        metrics: Metrics,
        on_change: Callable[[], None],
    ) -> None:
        self._repository = repository
        self._poll_seconds = poll_seconds
        self._loader = loader
        self._table = table
        self._metrics = metrics
        self._on_change = on_change
        self._records = Records()
        self._scanned = threading.Event()
        self._executor = SerialExecutor("models")
        self._retests = Retests(self._executor, self._records, self._replace_session)

    def start(self) -> None:
        """Begin the first scan."""
        self._executor.submit(self._reconcile)
        self._executor.start()

    def close(self) -> None:
        """Start no more loads, and end those under way."""
        self._executor.close()

    def wait_scanned(self, seconds: float) -> bool:
        """Wait for the first scan to end; whether it has."""
        return self._scanned.wait(seconds)

    def names(self) -> list[str]:
        """Models on disk, whether they serve or not."""
        return self._repository.names()

    def rescan(self) -> None:
        """Look for changes soon, and retry every version that has failed to load."""
        self._executor.submit(self._retry_all)

    def load(self, name: str) -> str | None:
        """Load a model, versions that have failed included; None when it serves, else the reason.

        Raises:
            UnavailableError: the server is stopping.
        """
        pending = self._executor.run(partial(self._load_model, name))
        awaited: set[Future[ServedModel]] = set()
        while left := [outcome for outcome in pending if outcome not in awaited]:
            self._executor.wait(left[0])
            awaited.add(left[0])
            pending = self._executor.run(partial(self._reconcile_and_list_pending, name))
        snapshot = self._table.snapshot
        if name in snapshot.models:
            return None
        reasons = [each.reason for (model, _), each in sorted(snapshot.unavailable.items()) if model == name]
        return "; ".join(reasons) or f"the repository has no version of {name!r} to serve"

    def unload(self, name: str) -> None:
        """Stop serving a model until it is loaded again; requests under way are answered.

        Raises:
            UnavailableError: the server is stopping.
        """
        self._executor.run(partial(self._unload_model, name))

    def on_hang(self, served: ServedModel, reason: str) -> None:
        """Stop serving a version at once in which a run does not end; it is reloaded when the run has ended."""
        self._table.withdraw(served, reason)
        self._on_change()
        self._executor.submit(partial(self._withdraw_hung, served, reason))

    def _reconcile(self) -> None:
        """Load selected versions that are missing, and drop loaded versions that are no longer selected."""
        self._guard(self._reconcile_models)
        self._guard(self._end_first_scan)
        self._executor.schedule(self._idle_seconds(), self._poll)

    def _end_first_scan(self) -> None:
        if self._table.scanned or any(record.state is State.LOADING for record in self._records.values()):
            return
        # What has been created so far lives as long as the process: the collector need not visit it again.
        gc.collect()
        gc.freeze()
        trim()
        self._table.note_scanned()
        self._on_change()
        self._scanned.set()

    def _poll(self) -> None:
        self._reconcile()
        # The memory that a flood has taken is returned when no request has to wait while that happens.
        if not self._metrics.requests_in_flight():
            trim()

    def _idle_seconds(self) -> float | None:
        """How long to wait for an event before looking again."""
        pauses = (self._poll_seconds or None, self._records.seconds_to_next(time.monotonic()))
        return min((pause for pause in pauses if pause is not None), default=None)

    def _guard(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:
            # A disk that fails for a while must not end the thread; loaded models keep serving.
            _LOGGER.exception("reconciling the models with the repository failed")

    def _reconcile_models(self) -> None:
        if not self._repository.exists():
            return
        on_disk = set(self._repository.names())
        for name in sorted(on_disk | {name for name, _ in self._records}):
            if self._executor.closed:
                return
            # A failure in one model must not keep the others from being reconciled.
            self._guard(partial(self._reconcile_model, name, on_disk=name in on_disk))

    def _reconcile_model(self, name: str, *, on_disk: bool) -> None:
        if self._records.is_unloaded(name):
            return
        before = self._records.serving(name)
        available = self._repository.versions(name) if on_disk else []
        selected = self._load_selected(name, available)
        for record in self._records.of(name):
            if record.key[1] not in selected:
                self._drop(record, on_disk=record.key[1] in available)
        self._repository.read_labels(name, self._records.serving(name))
        self._publish()
        if self._records.serving(name) != before:
            trim()

    def _load_selected(self, name: str, available: list[int]) -> set[int]:
        """Load what the policy selects, the newest version first; return the versions to keep."""
        selected: set[int] = set()
        for version in self._repository.candidates(available):
            selected.add(version)
            record = self._records.find_or_add((name, version))
            self._advance(record)
            if self._repository.newest_only:
                if record.serving is not None:
                    return selected
                if record.state is State.LOADING:
                    # Until its outcome is known, whatever serves now stays.
                    return set(available)
        return selected

    def _advance(self, record: Record) -> None:
        """Start a load if one is due, and take its outcome if it is there."""
        if record.serving is not None or self._executor.closed:
            return
        if record.state is not State.LOADING:
            fingerprint = self._repository.fingerprint(record.key)
            if record.should_load(fingerprint, time.monotonic()):
                self._launch(record, fingerprint)
        if record.outcome is not None and record.outcome.done():
            self._take(record, record.outcome)

    def _launch(self, record: Record, fingerprint: Fingerprint) -> None:
        attempt = Attempt(fingerprint)
        outcome = run_in_thread("load", partial(self._load, record.key, attempt))
        record.start_load(attempt, outcome)
        self._publish()
        if not self._executor.ends(outcome, _LOAD_PATIENCE_SECONDS):
            outcome.add_done_callback(lambda _: self._executor.submit(self._reconcile))

    def _load(self, key: Key, attempt: Attempt) -> ServedModel:
        on_run_failed = partial(self._retests.on_run_failed, key, attempt)
        folder = self._repository.folder(key)
        return self._loader.load(folder, *key, on_run_failed, lambda: self._executor.closed or attempt.cancelled)

    def _take(self, record: Record, outcome: Future[ServedModel]) -> None:
        try:
            served = outcome.result()
        except Exception as error:  # noqa: BLE001 (a bundle from elsewhere can raise anything)
            if not self._executor.closed:
                self._refuse(record, error)
            return
        record.become_ready(served)
        announce(self._metrics, served)
        _LOGGER.info("%s version %d serves on %s", *record.key, served.provider)

    def _refuse(self, record: Record, error: Exception) -> None:
        """Note and log why a version does not serve."""
        name, version = record.key
        transient = is_transient(error)
        later = ", and will be retried" if transient else ""
        if isinstance(error, (BundleError, DeviceError, OSError)):
            _LOGGER.error("%s version %d is refused%s: %s", name, version, later, error)
            reason = self._repository.shorten(str(error))
        else:
            _LOGGER.error("%s version %d is refused%s", name, version, later, exc_info=error)
            reason = f"its load failed with {type(error).__name__}; see the server's log"
        record.fail(reason, time.monotonic(), transient=transient)
        self._metrics.forget(name, str(version))

    def _drop(self, record: Record, *, on_disk: bool) -> None:
        """Retire a version that is not selected; one that has failed keeps its reason while its files are there."""
        if not on_disk or record.serving is not None or record.state is State.LOADING:
            self._retire(record)
            record.cancel()
            del self._records[record.key]
        elif record.state is not State.PENDING and not record.busy:
            record.retry()

    def _retire(self, record: Record) -> None:
        """End the metrics of a version that is about to leave service."""
        if record.serving is not None:
            record.serving.drift.flush()
            self._metrics.forget(record.key[0], str(record.key[1]))
            _LOGGER.info("%s version %d is unloaded", *record.key)

    def _publish(self) -> None:
        """Show requests, readiness and health the present state."""
        self._table.replace(self._records.snapshot(self._repository.labels))
        self._on_change()

    def _retry_all(self) -> None:
        for record in self._records.values():
            if record.has_failed:
                record.retry()
        self._reconcile()

    def _load_model(self, name: str) -> list[Future[ServedModel]]:
        """Retry what has failed and load what was unloaded; the loads under way."""
        for record in self._records.of(name):
            if record.has_failed:
                record.retry()
            elif record.state is State.UNLOADED and record.busy:
                record.hang(record.reason)
            elif record.state is State.UNLOADED:
                del self._records[record.key]
        return self._reconcile_and_list_pending(name)

    def _reconcile_and_list_pending(self, name: str) -> list[Future[ServedModel]]:
        self._reconcile()
        return self._records.pending(name)

    def _unload_model(self, name: str) -> None:
        # One record keeps a model unloaded. A model that has none gets one of version 0, which no bundle has; the disk
        # is not asked, because a model must be unloadable while its folder cannot be read.
        for record in self._records.of(name) or [self._records.find_or_add((name, 0))]:
            self._retire(record)
            record.unload()
        self._publish()
        trim()

    def _replace_session(self, record: Record, error: BaseException) -> None:
        _LOGGER.error("%s version %d is reloaded, because a run has failed: %s", *record.key, error)
        self._retire(record)
        record.fail_session("its session has failed and is being replaced")
        self._publish()
        self._reconcile()

    def _withdraw_hung(self, served: ServedModel, reason: str) -> None:
        record = self._records.get((served.name, int(served.version)))
        if record is not None and record.serving is served:
            self._retire(record)
            record.hang(reason)
            self._publish()
            self._reconcile()
