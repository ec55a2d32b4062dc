"""Health check after a failed run, in place of a circuit breaker: a self-test finds out what was at fault.

A version stays in service meanwhile. Only if its session fails the test is it taken out (quarantine) and reloaded.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from math import inf

from server.models.job_thread import SerialExecutor, ThreadStartError, run_in_thread
from server.models.lifecycle import Attempt, Key, State
from server.models.records import Record, Records

_LOGGER = logging.getLogger(__name__)
# Self-tests must not take the time of other requests, however many runs fail.
_INTERVAL_SECONDS = 1.0


class Retests:
    """Retests versions of which a run has failed, one test at a time each and at most one per second.

    `replace_session` is called on the executor's thread with a version whose session has failed.
    """

    def __init__(
        self, executor: SerialExecutor, records: Records, replace_session: Callable[[Record, BaseException], None]
    ) -> None:
        self._executor = executor
        self._records = records
        self._replace_session = replace_session

    def on_run_failed(self, key: Key, attempt: Attempt, error: BaseException, *, certain: bool) -> None:
        """Find out who is at fault, from any thread; `certain` when it cannot be the request."""
        if not certain:
            if time.monotonic() < attempt.muted_until:
                return
            attempt.muted_until = inf
        self._executor.submit(partial(self._examine, key, attempt, error, certain=certain))

    def _examine(self, key: Key, attempt: Attempt, error: BaseException, *, certain: bool) -> None:
        record = self._records.get(key)
        # Every request of a dead session reports it, some after another session has taken its place.
        if record is None or record.attempt is not attempt or record.serving is None:
            return
        if certain:
            self._replace_session(record, error)
        elif record.state is State.READY:
            # A self-test may take as long as a load, and must delay no other work.
            test = run_in_thread("retest", record.serving.self_test)
            record.retest()
            conclude = partial(self._conclude, key, attempt, error)
            test.add_done_callback(lambda test: self._executor.submit(partial(conclude, test)))

    def _conclude(self, key: Key, attempt: Attempt, error: BaseException, test: Future[object]) -> None:
        """Keep a version that has passed its self-test, and replace the session of one that has not."""
        record = self._records.get(key)
        if record is None or record.attempt is not attempt or record.state is not State.RETESTING:
            return
        failure = test.exception()
        if isinstance(failure, ThreadStartError):
            # Nothing is known of the session: the next failed run has it tested.
            _LOGGER.error("%s version %d could not be tested after a failed run: %s", *key, failure)
        elif failure is not None:
            _LOGGER.error("%s version %d failed its self-test", *key, exc_info=failure)
            self._replace_session(record, error)
            return
        else:
            _LOGGER.warning("%s version %d passed its self-test; the request caused the failure: %s", *key, error)
        record.pass_retest()
        attempt.muted_until = time.monotonic() + _INTERVAL_SECONDS
