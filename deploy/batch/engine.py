"""In-process inference: a bundle loaded, verified and self-tested by the server's code, and called without a transport.

From its handler on a request goes as in the server (decoding, padding, tiles, batches): its answer has the same bits.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import TypeAlias

from google.protobuf.message import Message

from bundle import layout
from server.batching.executor import Executor
from server.calls.call import FOREVER, Call
from server.config import Config
from server.endpoint import Method
from server.errors import Status
from server.metrics.registry import Metrics
from server.models.loader import Loader
from server.models.signing import SigningVerifier
from server.models.table import ModelTable, ServedModel, Snapshot
from server.models.watchdog import Watchdog
from server.runtime.providers import choose_provider
from server.services.autoencoder import service as autoencoder
from server.services.graph_calls import GraphCalls

_Answer: TypeAlias = "SimpleQueue[bytes | Status]"


class CallError(Exception):
    """A call ended with a status other than OK."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class Engine:
    """One model version in this process."""

    def __init__(self, repository: Path, config: Config) -> None:
        """Load the version that a repository of one holds.

        Raises:
            BundleError: it is invalid, or does not reproduce its golden outputs here.
            DeviceError: the device that the settings name does not work.
            KeyFileError: --require-signature names no usable key.
        """
        config = replace(config, repository=repository)
        (name,) = layout.model_names(repository)
        (version,) = layout.versions(repository, name)
        self._executor = Executor(config, fair=False)
        table, signing = ModelTable(), SigningVerifier(config.require_signature)
        signing.start()
        loader = Loader(config, choose_provider(config), signing, self._executor, Metrics(), None)
        folder = layout.version_folder(repository, name, version)
        self.served: ServedModel = loader.load(folder, name, version, _ignore_failure, bool)
        table.replace(Snapshot({name: {version: self.served}}, {}, {}))
        # Without it a run that does not end would hold the job for ever.
        self._watchdog = Watchdog(table, config.run_timeout_seconds, table.withdraw)
        self._watchdog.start()
        every = autoencoder.methods(GraphCalls(table, self._executor, config))
        self._methods = {method.name: method for method in every if isinstance(method, Method)}

    def call(self, method: str, request: Message) -> bytes:
        """The serialised response of an RPC of autoencoder.v1.

        Raises:
            CallError: it failed.
        """
        answer: _Answer = SimpleQueue()
        call = Call(method, time.monotonic(), FOREVER, (), self, answer, _ended)
        try:
            self._methods[method].serve(call, request)
        except Exception as error:  # noqa: BLE001 (it becomes the call's status)
            call.fail(error)
        while self._executor.run_ready():
            pass
        result = answer.get()
        if isinstance(result, Status):
            raise CallError(result)
        return result

    def send_all(self, answers: Sequence[tuple[_Answer, bytes]]) -> None:
        """Take answers, as a transport does."""
        for answer, payload in answers:
            answer.put(payload)

    def fail(self, token: _Answer, status: Status) -> None:
        """Take a failure, as a transport does."""
        token.put(status)

    def close(self) -> None:
        """End its threads."""
        self._watchdog.close()
        self._executor.close()


def _ignore_failure(error: BaseException, *, certain: bool) -> None:
    """A server tests the version again; here the failed image is reported."""


def _ended(calls: Sequence[Call], code: str) -> None:
    """Nothing is counted."""
