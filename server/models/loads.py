"""Loads under way: each on a thread of its own, so that one that takes long holds up no other."""

import threading
from collections.abc import Callable, Container
from concurrent.futures import Future
from typing import TypeAlias

from server.models.job_thread import Jobs
from server.models.refusals import Fingerprint, Key
from server.models.table import ServedModel

# A load that takes longer goes on beside others. Most do not: one after the other they do not disturb the times that
# are measured at warm-up.
_PATIENCE_SECONDS = 5.0


class Token:
    """What a load and its version are known by, without holding them."""

    wanted = True
    """Whether anybody waits for the load."""


class Load:
    """One try at a version, of files that were as the fingerprint says."""

    def __init__(self, fingerprint: Fingerprint) -> None:
        self.fingerprint = fingerprint
        self.token = Token()
        self.outcome: Future[ServedModel] = Future()


Begin: TypeAlias = Callable[[Token], ServedModel]


class Loads:
    """To be asked by one thread, that of the jobs; `ended` becomes one when a load ends that was not waited for."""

    def __init__(self, jobs: Jobs, ended: Callable[[], None]) -> None:
        self._jobs = jobs
        self._ended = ended
        self._loads: dict[Key, Load] = {}

    def take(self, key: Key, fingerprint: Fingerprint, begin: Begin) -> Load | None:
        """A load that has ended, begun now unless one was under way; None while it takes long."""
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = Load(fingerprint)
            threading.Thread(target=_run, args=(load, begin), name="load", daemon=True).start()
            if not self._jobs.ends(load.outcome, _PATIENCE_SECONDS):
                load.outcome.add_done_callback(lambda _: self._jobs.put(self._ended))
        if not load.outcome.done():
            return None
        return self._loads.pop(key)

    def __contains__(self, key: Key) -> bool:
        """Whether a load has not been taken yet."""
        return key in self._loads

    def under_way(self, name: str | None = None) -> "list[Future[ServedModel]]":
        """Loads that have not ended, of one model or of all; may be asked from any thread."""
        return [
            load.outcome
            for key, load in list(self._loads.items())
            if name in {key[0], None} and not load.outcome.done()
        ]

    def keep(self, name: str, versions: Container[int]) -> None:
        """Give up the loads of a model's other versions."""
        for key in [key for key in self._loads if key[0] == name and key[1] not in versions]:
            self._loads.pop(key).token.wanted = False


def _run(load: Load, begin: Begin) -> None:
    try:
        load.outcome.set_result(begin(load.token))
    except BaseException as error:  # noqa: BLE001 (whoever asks for the outcome raises it)
        load.outcome.set_exception(error)
