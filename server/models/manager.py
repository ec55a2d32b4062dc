"""Model manager: a reconciler that keeps one lifecycle record per version in step with the files on disk."""

import gc
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

from server.metrics.registry import Metrics
from server.models.job_thread import Guard, SerialExecutor
from server.models.lifecycle import Attempt, Fingerprint, Key, State
from server.models.loader import Loader
from server.models.records import LoadsAhead, Record, Records
from server.models.repository import Repository
from server.models.retest import Retests
from server.models.table import ModelTable, ServedModel
from server.models.transitions import Transitions
from server.runtime.malloc import trim

_LOGGER = logging.getLogger(__name__)
# A load that takes longer continues while others start.
_LOAD_PATIENCE_SECONDS = 5.0
# A model with a great many versions to load goes on in the next look, after the others have had their turn.
_TURN_SECONDS = 1.0
# After each model: a look at a hundred must not keep the interpreter from calls.
_PAUSE_SECONDS = 0.00005


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
        self._ahead = LoadsAhead(self._records, repository, self._load, loader.max_bytes)
        self._transitions = Transitions(self._records, repository, metrics, self._look_after)
        self._on_disk: set[str] = set()
        self._unloading: set[str] = set()
        self._unfinished = False
        self._launches = 0
        self._guard = Guard("reconciling the models with the repository")
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

    def knows(self, name: str) -> bool:
        """Whether a model has versions that serve or do not, or a folder on disk."""
        return name in self._table.snapshot.names() or name in self._repository.names()

    def rescan(self) -> None:
        """Look for changes soon, and load every version that has failed or whose files have changed."""
        self._executor.submit(self._retry_all)

    def load(self, name: str) -> str | None:
        """Load a model, versions that have failed or whose files have changed included.

        Returns None when it serves what is on disk, else why not.

        Raises:
            UnavailableError: the server is stopping.
        """
        pending = self._executor.run(partial(self._load_model, name))
        awaited: set[Future[Any]] = set()
        while left := [outcome for outcome in pending if outcome not in awaited]:
            self._executor.wait(left[0])
            awaited.add(left[0])
            pending = self._executor.run(partial(self._reconcile_and_list_pending, name))
        return self._table.snapshot.why_not_loaded(name)

    def unload(self, name: str) -> None:
        """Stop serving a model until it is loaded again; requests under way are answered.

        Raises:
            UnavailableError: the server is stopping.
        """
        # A load of it that is under way ends at once, so that the manager's thread need not wait for it.
        self._unloading.add(name)
        try:
            self._executor.run(partial(self._unload_model, name))
        finally:
            self._unloading.discard(name)

    def on_hang(self, served: ServedModel, reason: str) -> None:
        """Stop serving a version at once in which a run does not end; it is reloaded when the run has ended."""
        self._table.withdraw(served, reason)
        self._on_change()
        self._executor.submit(partial(self._withdraw_hung, served, reason))

    def _reconcile(self) -> None:
        """Load selected versions that are missing, and drop loaded versions that are no longer selected."""
        self._guard.run(self._reconcile_models)
        self._guard.run(self._end_first_scan)
        self._guard.end_round()
        self._executor.schedule(0.0 if self._unfinished else self._idle_seconds(), self._poll)

    def _end_first_scan(self) -> None:
        loading = any(record.state is State.LOADING for record in self._records.values())
        if self._table.scanned or loading or self._unfinished:
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

    def _reconcile_models(self) -> None:
        self._unfinished = False
        names = self._repository.look()
        if names is None:
            self._transitions.take_all()
            self._publish()
            return
        self._on_disk = set(names)
        # Until the first scan has ended, loads have all cores, even if some models serve already.
        width = 1 if self._table.scanned else self._loader.concurrent_loads
        for name in self._ahead.walk(sorted(self._on_disk | {name for name, _ in self._records}), width):
            if self._executor.closed:
                return
            # A failure in one model must not keep the others from being reconciled.
            self._guard.run(partial(self._reconcile_model, name))
            time.sleep(_PAUSE_SECONDS)
        self._repository.end_look()
        self._publish()

    def _reconcile_model(self, name: str) -> None:
        if self._records.is_unloaded(name):
            return
        before, shown = self._records.serving(name), (self._records.shown(name), self._repository.labels.get(name))
        available = self._repository.versions(name, before.keys()) if name in self._on_disk else []
        selected = self._load_selected(name, available)
        for record in self._records.of(name):
            if record.key[1] not in selected:
                self._transitions.drop(record, on_disk=record.key[1] in available)
        self._repository.read_labels(name, self._records.serving(name))
        if (self._records.shown(name), self._repository.labels.get(name)) != shown:
            self._publish()
        if self._records.serving(name) != before:
            trim()

    def _load_selected(self, name: str, available: list[int]) -> set[int]:
        """Load what the policy selects, the newest version first; return the versions to keep."""
        selected: set[int] = set()
        launches, turn_ends = self._launches, time.monotonic() + _TURN_SECONDS
        for version in self._repository.candidates(available):
            if self._launches > launches and time.monotonic() > turn_ends:
                self._unfinished = True
                return set(available)
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
        if self._executor.closed:
            return
        if record.serving is not None:
            self._transitions.compare(record)
            if record.successor is not None:
                self._advance_successor(record, record.successor)
            return
        if record.state is not State.LOADING:
            fingerprint = self._repository.fingerprint(record.key)
            if record.should_load(fingerprint, time.monotonic()):
                self._launch(record, fingerprint)
        self._transitions.take(record)

    def _advance_successor(self, record: Record, successor: Record) -> None:
        if successor.state is State.PENDING:
            self._launch(successor, self._repository.fingerprint(record.key))
        if successor.outcome is not None and successor.outcome.done():
            self._transitions.succeed(record, successor)

    def _launch(self, record: Record, fingerprint: Fingerprint) -> None:
        self._launches += 1
        attempt, outcome = self._ahead.take(record.key, fingerprint)
        record.start_load(attempt, outcome)
        self._publish()
        self._look_after(outcome, _LOAD_PATIENCE_SECONDS)

    def _look_after(self, work: Future[Any], seconds: float) -> None:
        """Wait a moment for work of another thread; if it takes longer, look again once it is done."""
        if not self._executor.ends(work, seconds):
            work.add_done_callback(lambda _: self._executor.submit(self._reconcile))

    def _load(self, key: Key, attempt: Attempt) -> ServedModel:
        on_run_failed = partial(self._retests.on_run_failed, key, attempt)
        folder = self._repository.folder(key)

        def cancelled() -> bool:
            return self._executor.closed or attempt.cancelled or key[0] in self._unloading

        return self._loader.load(folder, *key, on_run_failed, cancelled)

    def _publish(self) -> None:
        """Show requests, readiness and health the present state."""
        snapshot = self._records.snapshot(self._repository.labels)
        unloaded = snapshot.unloaded & self._on_disk
        misplaced, problem = self._repository.misplaced, self._repository.problem
        self._table.replace(replace(snapshot, unloaded=unloaded, misplaced=misplaced, problem=problem))
        self._on_change()

    def _retry_all(self) -> None:
        self._transitions.retry_all()
        self._reconcile()

    def _load_model(self, name: str) -> list[Future[Any]]:
        """Retry what has failed and load what was unloaded; the loads under way."""
        for record in self._records.of(name):
            if record.state is State.UNLOADED and record.busy:
                record.hang(record.reason)
            elif record.state is State.UNLOADED:
                del self._records[record.key]
            else:
                self._transitions.retry(record)
        return self._reconcile_and_list_pending(name)

    def _reconcile_and_list_pending(self, name: str) -> list[Future[Any]]:
        self._reconcile()
        while self._unfinished:
            self._reconcile()
        return self._records.pending(name)

    def _unload_model(self, name: str) -> None:
        # One record keeps a model unloaded. A model that has none gets one of version 0, which no bundle has; the disk
        # is not asked, because a model must be unloadable while its folder cannot be read.
        for record in self._records.of(name) or [self._records.find_or_add((name, 0))]:
            self._transitions.retire(record)
            record.unload()
        self._on_disk.add(name)
        self._publish()
        trim()

    def _replace_session(self, record: Record, error: BaseException) -> None:
        _LOGGER.error("%s version %d is reloaded, because a run has failed: %s", *record.key, error)
        self._transitions.retire(record)
        record.fail_session("its session has failed and is being replaced")
        self._publish()
        self._reconcile()

    def _withdraw_hung(self, served: ServedModel, reason: str) -> None:
        record = self._records.get((served.name, int(served.version)))
        if record is not None and record.serving is served:
            self._transitions.retire(record)
            record.hang(reason)
            self._publish()
            self._reconcile()
