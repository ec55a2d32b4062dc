"""Model repository extension: the index with the state of each version, loading and unloading on request."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from itertools import groupby

from inference import open_inference_pb2 as pb

from server.batching.executor import Executor
from server.calls.call import Call
from server.errors import InvalidArgumentError, NotFoundError, UnavailableError
from server.models.lifecycle import State, Unavailable
from server.models.manager import ModelManager
from server.models.table import ModelTable

_LOGGER = logging.getLogger(__name__)
_MAX_LISTED = 10
"""Versions of a model in the index that do not serve."""


class RepositoryControl:
    """RepositoryIndex, RepositoryModelLoad and RepositoryModelUnload; the endpoint checks the caller's right."""

    def __init__(self, table: ModelTable, manager: ModelManager, executor: Executor) -> None:
        self._table = table
        self._manager = manager
        self._executor = executor

    def index(self, call: Call, request: pb.RepositoryIndexRequest) -> None:
        """Versions that serve, versions that do not with the reason, and models unloaded on request."""
        snapshot = self._table.snapshot
        response = pb.RepositoryIndexResponse()
        for served in self._table.all():
            note = snapshot.notes.get((served.name, int(served.version)), "")
            response.models.add(name=served.name, version=served.version, state="READY", reason=note)
        if not request.ready:
            for name, versions in groupby(sorted(snapshot.unavailable.items()), key=lambda item: item[0][0]):
                _add_unavailable(response, name, {version: each for (_, version), each in versions})
            for name in sorted(snapshot.unloaded):
                response.models.add(name=name, state="UNAVAILABLE", reason="unloaded")
        call.answer(response.SerializeToString())

    def load(self, call: Call, request: pb.RepositoryModelLoadRequest) -> None:
        """Load a model, or look for newer versions of one that serves."""
        if request.parameters:
            names = ", ".join(sorted(request.parameters))[:100]
            raise InvalidArgumentError("parameters", f"expected none, because the bundle alone says all, got {names}")
        self._later(call, partial(self._load, call, _name(request)))

    def unload(self, call: Call, request: pb.RepositoryModelUnloadRequest) -> None:
        """Stop serving a model until it is loaded again."""
        self._later(call, partial(self._unload, call, _name(request)))

    def _load(self, call: Call, name: str) -> None:
        self._check_known(name)
        why = self._manager.load(name)
        if why is not None:
            raise UnavailableError(f"Model {name!r} cannot be loaded: {why}.")
        _LOGGER.info("%s is loaded on request", name)
        call.answer(pb.RepositoryModelLoadResponse().SerializeToString())

    def _unload(self, call: Call, name: str) -> None:
        self._check_known(name)
        self._manager.unload(name)
        _LOGGER.info("%s is unloaded on request", name)
        call.answer(pb.RepositoryModelUnloadResponse().SerializeToString())

    def _check_known(self, name: str) -> None:
        if not self._manager.knows(name):
            raise NotFoundError(f"The repository has no model {name[:60]!r}.")

    def _later(self, call: Call, job: Callable[[], None]) -> None:
        """Run a job on another thread, because loading may take long."""

        def run() -> None:
            try:
                job()
            except Exception as error:  # noqa: BLE001 (it becomes the call's status)
                call.fail(error)

        self._executor.start_run(run)


def _add_unavailable(response: pb.RepositoryIndexResponse, name: str, versions: Mapping[int, Unavailable]) -> None:
    """Add the newest versions of a model that do not serve, and how many more there are."""
    for version, each in list(versions.items())[-_MAX_LISTED:]:
        state = "LOADING" if each.state is State.LOADING else "UNAVAILABLE"
        response.models.add(name=name, version=str(version), state=state, reason=each.reason)
    if (more := len(versions) - _MAX_LISTED) > 0:
        response.models.add(name=name, state="UNAVAILABLE", reason=f"and {more:,} more versions do not serve")


def _name(request: pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest) -> str:
    if not request.model_name:
        raise InvalidArgumentError("model_name", "expected the name of a model, got none")
    return request.model_name
