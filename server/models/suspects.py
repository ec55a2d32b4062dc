"""Versions of which a run has failed: the session may be at fault, or the request. A self-test tells."""

import logging
import threading
from collections.abc import Callable
from functools import partial

from server.models.job_thread import Jobs
from server.models.refusals import Key
from server.models.table import ServedModel

_LOGGER = logging.getLogger(__name__)
# Tests must not take the time of honest requests, however many others fail.
_REST_SECONDS = 1.0


class Suspects:
    """Each is tested again, once at a time, and not again for a moment when it has passed.

    `find` gives the version of a key, if it is still the one of that token; `condemn` makes it anew. Both are jobs.
    """

    def __init__(
        self, jobs: Jobs, find: Callable[[Key, object], ServedModel | None], condemn: Callable[[Key], None]
    ) -> None:
        self._jobs = jobs
        self._find = find
        self._condemn = condemn
        self._keys: set[Key] = set()

    def report(self, key: Key, token: object, error: BaseException, *, certain: bool) -> None:
        """A run has failed: from any thread. One that has failed alone may have to blame its request."""
        due = certain or key not in self._keys
        if not certain:
            self._keys.add(key)
        if due:
            self._jobs.put(partial(self._examine, key, token, error, certain=certain))

    def _examine(self, key: Key, token: object, error: BaseException, *, certain: bool) -> None:
        served = self._find(key, token)
        # Every request of a dead session reports it, and some do when another one has taken its place.
        if served is None or certain:
            self._judge(key, token, error, passes=False)
        else:
            # It may take as long as a load, and nobody else's waits for it.
            threading.Thread(target=self._test, args=(key, token, error, served), name="suspect", daemon=True).start()

    def _test(self, key: Key, token: object, error: BaseException, served: ServedModel) -> None:
        self._jobs.put(partial(self._judge, key, token, error, passes=_passes(served)))

    def _judge(self, key: Key, token: object, error: BaseException, *, passes: bool) -> None:
        """Take a version out of service whose session fails its self-test, and make it anew."""
        if passes:
            _LOGGER.warning("%s version %d passes its self-test: a run has failed by its request: %s", *key, error)
            rest = threading.Timer(_REST_SECONDS, self._forget, (key,))
            rest.daemon = True
            rest.start()
            return
        self._forget(key)
        if self._find(key, token) is not None:
            _LOGGER.error("%s version %d is made anew, because a run has failed: %s", *key, error)
            self._condemn(key)

    def _forget(self, key: Key) -> None:
        self._keys.discard(key)


def _passes(served: ServedModel) -> bool:
    """Whether a version still gives its golden outputs."""
    try:
        served.self_test()
    except Exception:
        _LOGGER.exception("%s version %s fails its self-test", served.name, served.version)
        return False
    return True
