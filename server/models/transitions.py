"""Transitions of versions into service and out of it, with their log lines and metrics (state changes, audit log)."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from autoencoder.v1.model_pb2 import Model

from bundle.errors import BundleError
from server.metrics.drift import alarm_share
from server.metrics.registry import Metrics
from server.models.job_thread import ThreadStartError, run_in_thread
from server.models.lifecycle import Comparison, Key, State, VersionRecord, brief, is_transient
from server.models.records import Record, Records
from server.models.repository import Repository
from server.models.table import ServedModel
from server.models.watchdog import CancelledError
from server.runtime.session import DeviceError

_LOGGER = logging.getLogger(__name__)
# Most files are compared in less, so that a load on request knows at once whether they have changed.
_COMPARE_PATIENCE_SECONDS = 0.5
_QUANTILES = (0.5, 0.9, 0.99, 0.999)
_CHANGED = "its files have changed since it was loaded; it goes on serving what it loaded"


class Transitions:
    """Changes records; only the thread of the manager may call it."""

    def __init__(
        self,
        records: Records,
        repository: Repository,
        metrics: Metrics,
        look_after: Callable[[Future[Any], float], None],
    ) -> None:
        """Call `look_after` with what another thread does and how long to wait for it."""
        self._records = records
        self._repository = repository
        self._metrics = metrics
        self._look_after = look_after
        self._comparing = threading.Lock()

    def take(self, record: Record) -> None:
        """Take the outcome of a load, if it is there: serve the version, or note why it does not serve."""
        if record.outcome is None or not record.outcome.done():
            return
        try:
            served = record.outcome.result()
        except CancelledError:
            # The record is about to go: the server stops, or the model is being unloaded.
            return
        except Exception as error:  # noqa: BLE001 (a bundle from elsewhere can raise anything)
            self._refuse(record, error)
            return
        record.become_ready(served)
        self._announce(served)
        _LOGGER.info("%s version %d serves on %s", *record.key, served.provider)

    def take_all(self) -> None:
        """Take the outcomes of all loads that have ended."""
        for record in list(self._records.values()):
            self.take(record)

    def succeed(self, record: Record, successor: Record) -> None:
        """Let a load of changed files take the place of the version that serves, or note why it does not."""
        record.successor = None
        if successor.outcome is not None and successor.outcome.exception() is None:
            self.retire(record)
            self._records[record.key] = successor
        self.take(successor)
        if successor.has_failed and record.attempt is not None and successor.attempt is not None:
            record.attempt.fingerprint = successor.attempt.fingerprint
            record.note = brief(f"{_CHANGED}, because they are refused: {successor.reason}")

    def retire(self, record: Record) -> None:
        """End the metrics of a version that is about to leave service."""
        if record.serving is not None:
            record.serving.drift.flush()
            self._metrics.forget(record.key[0], str(record.key[1]))
            _LOGGER.info("%s version %d is unloaded", *record.key)

    def drop(self, record: Record, *, on_disk: bool) -> None:
        """Retire a version that is not selected; one that has failed keeps its reason while its files are there."""
        if not on_disk or record.serving is not None or record.state is State.LOADING:
            self.retire(record)
            record.cancel()
            del self._records[record.key]
        elif record.state is not State.PENDING and not record.busy:
            record.retry()

    def retry(self, record: Record) -> None:
        """Have a version loaded that has failed, or whose files have changed."""
        if record.has_failed:
            record.retry()
        elif record.successor is None:
            self.compare(record)
            if record.comparison is not None:
                record.comparison.load = True
            elif record.note:
                record.successor = VersionRecord(record.key)

    def retry_all(self) -> None:
        """Have every version loaded that has failed, or whose files have changed."""
        for record in self._records.values():
            self.retry(record)

    def compare(self, record: Record) -> None:
        """Note whether the files of a version that serves are still those that were loaded, once that is known."""
        if record.serving is None or record.attempt is None or record.successor is not None:
            return
        if record.comparison is None:
            now = self._repository.fingerprint(record.key)
            if now == record.attempt.fingerprint or now[0] is None:
                return
            # One at a time is waited for: the others take their turn after it.
            patience = 0 if self._comparing.locked() else _COMPARE_PATIENCE_SECONDS
            same = run_in_thread("compare", partial(self._holds, record.key, record.serving.model))
            record.comparison = Comparison(now, same)
            self._look_after(same, patience)
        if record.comparison.same.done():
            self._conclude(record, record.comparison)

    def _holds(self, key: Key, model: Model) -> bool:
        # Files are read as a whole: one version at a time.
        with self._comparing:
            return self._repository.holds(key, model)

    def _conclude(self, record: Record, comparison: Comparison) -> None:
        record.comparison = None
        same = comparison.same.result()
        assert record.attempt is not None  # noqa: S101 (it serves)
        before, now = record.attempt.fingerprint, comparison.fingerprint
        record.attempt.fingerprint = now
        if same:
            record.note = ""
            return
        # Once per change, however many polls it takes to copy the files.
        if not record.note or now[0] != before[0]:
            _LOGGER.warning(
                "the files of %s version %d have changed since it was loaded; it goes on serving what it loaded: "
                "publish a new version number, or load the model again",
                *record.key,
            )
        record.note = _CHANGED
        if comparison.load:
            record.successor = VersionRecord(record.key)

    def _announce(self, served: ServedModel) -> None:
        """Set the gauges of a version that begins to serve."""
        metrics, name, version = self._metrics, served.name, served.version
        labels = (name, version, served.model.family, served.provider, str(served.opset))
        metrics.models.info.labels(*labels).set(1)
        metrics.models.ready.labels(name, version).set(1)
        for signature, error in served.self_test_errors.items():
            metrics.models.self_test.labels(name, version, signature).set(error)
        for signature, batcher in served.batchers.items():
            metrics.watch((name, version, signature), lambda queue=batcher.queue: queue.rows)
        served.drift.detections.announce()
        metrics.models.alarm_share.labels(name, version).set(alarm_share(served.statistics))
        if served.statistics is not None and len(served.statistics.quantile_levels):
            for level in _QUANTILES:
                value = served.statistics.reconstruction_error_quantile(level)
                metrics.models.error_quantile.labels(name, version, f"{level:g}").set(value)

    def _refuse(self, record: Record, error: Exception) -> None:
        """Note and log why a version does not serve."""
        name, version = record.key
        transient = is_transient(error)
        later = ", and will be retried" if transient else ""
        if isinstance(error, (BundleError, DeviceError, ThreadStartError, OSError)):
            reason = brief(self._repository.shorten(str(error)))
            _LOGGER.error("%s version %d is refused%s: %s", name, version, later, reason)
        else:
            _LOGGER.error("%s version %d is refused%s", name, version, later, exc_info=error)
            reason = f"its load failed with {type(error).__name__}; see the server's log"
        record.fail(reason, time.monotonic(), transient=transient)
