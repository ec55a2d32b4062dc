"""From a folder to a model that serves: every check of a bundle, then warm-up. docs/architecture.md has the list."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from autoencoder.v1.model_pb2 import Model, Signature

from bundle import layout
from bundle.compatibility import check_golden, check_model, check_statistics
from bundle.errors import BundleError
from bundle.golden import Golden
from bundle.graph import check_graph
from bundle.latents import LatentStatistics
from server.batching.batcher import Batcher
from server.batching.executor import Dispatcher
from server.batching.policy import choose_policy, profile
from server.batching.row_queue import Backlog
from server.batching.run import Doctor
from server.calls.call import Call
from server.calls.tracing import Graph, Tracer
from server.config import Config
from server.metrics.drift import Drift, alarm_share
from server.metrics.registry import Metrics, RunSeries
from server.models.bounded import OverdueError, UnwantedError, bounded
from server.models.self_test import Parts, check_invariance, replay, replay_sample
from server.models.signing import SignatureCheck
from server.models.table import ServedModel
from server.runtime.cpu import cores
from server.runtime.session import CPU, DEFAULT_BUCKETS, DeviceError, Interrupt, Provider, Session

_LOGGER = logging.getLogger(__name__)
_QUANTILES = (0.5, 0.9, 0.99, 0.999)


class LoadStoppedError(Exception):
    """The server is closing, or the version is not expected any more."""


class _Progress:
    """How far a load has come, and whether it is still expected."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self.interrupt = Interrupt()
        self.result = "invalid"
        """What it has come to if it ends now."""
        self._stopping = stopping
        self._abandoned = False

    def stopping(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._abandoned or self._stopping()

    def abandon(self) -> None:
        """End it at its next step, and the graph that runs."""
        self._abandoned = True
        self.interrupt.set()


class Loader:
    """Makes served models."""

    def __init__(
        self,
        config: Config,
        provider: Provider,
        signatures: SignatureCheck,
        dispatcher: Dispatcher,
        metrics: Metrics,
        tracer: Tracer | None,
    ) -> None:
        self._config = config
        self._signatures = signatures
        self._provider: Provider = provider
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._tracer = tracer

    def load(
        self,
        repository: Path,
        name: str,
        version: int,
        failed: Doctor,
        stopping: Callable[[], bool],
    ) -> ServedModel:
        """Load, check and warm up one version; `failed` is told when a run of one of its sessions has failed.

        Raises:
            LoadStoppedError: `stopping` has become true.
            BundleError: it is not what it claims to be, does not give its golden outputs, or takes too long.
            DeviceError: the provider cannot be had.
        """
        started = time.monotonic()
        progress = _Progress(stopping)
        folder = layout.version_folder(repository, name, version)
        limit_seconds = self._config.load_timeout_seconds
        result = None
        try:
            load = partial(self._load, folder, name, version, failed, progress)
            return bounded(load, limit_seconds, "load", stopping)
        except (LoadStoppedError, UnwantedError) as error:
            result = "stopped"
            progress.abandon()
            raise LoadStoppedError from error
        except DeviceError:
            result = "device_failed"
            raise
        except OverdueError as error:
            result = "timed_out"
            progress.abandon()
            raise BundleError(f"its load has taken longer than {limit_seconds:g} s") from error
        finally:
            self._metrics.models.loads.labels(name, result or progress.result).inc()
            self._metrics.models.load_seconds.labels(name).observe(time.monotonic() - started)

    def _load(self, folder: Path, name: str, version: int, failed: Doctor, progress: _Progress) -> ServedModel:
        parts = self._read(folder, name, version, progress)
        progress.result = "self_test_failed"
        self._self_test(parts, progress.stopping)
        progress.result = "warm_up_failed"
        served = self._serve(parts, failed, progress)
        progress.result = "ok"
        return served

    def _read(self, folder: Path, name: str, version: int, progress: _Progress) -> Parts:
        model = layout.read_model(folder)
        if (model.name, model.version) != (name, str(version)):
            raise BundleError(
                f"{folder}: expected model {name} version {version}, got {model.name} {model.version}: "
                "a bundle lies in <name>/<version> as its model.json says, move it there or export it under this name"
            )
        self._check_size(folder, model)
        self._signatures.check(folder, model)
        check_model(model)
        files = layout.read_files(folder, model)
        statistics = None
        if layout.LATENTS_FILE in files:
            statistics = LatentStatistics.from_bytes(files[layout.LATENTS_FILE])
        check_statistics(model, statistics)
        opsets = [check_graph(files[s.file], s, imported=model.imported).opset for s in model.signatures]
        sessions = {
            signature.name: Session.open(
                signature, files[signature.file], self._provider, self._config, progress.interrupt
            )
            for signature in _unless(progress.stopping, model)
        }
        return Parts(model, Golden.from_bytes(files[layout.GOLDEN_FILE]), statistics, sessions, max(opsets))

    def _check_size(self, folder: Path, model: Model) -> None:
        got, most = sum(file.size_bytes for file in model.files), self._config.max_model_bytes
        if got > most:
            raise BundleError(
                f"{folder}: expected files of {most} bytes together at most, got {got}: raise --max-model-bytes where "
                "there is memory for three times as much"
            )

    def _self_test(self, parts: Parts, stopping: Callable[[], bool], *, note: bool = True) -> None:
        check_golden(parts.model, parts.golden)
        for signature in _unless(stopping, parts.model):
            error = replay(signature, parts.sessions[signature.name], parts.golden)
            if note:
                labels = (parts.model.name, parts.model.version, signature.name)
                self._metrics.models.self_test.labels(*labels).set(error)
            if signature.batch_invariant and self._provider == CPU:
                check_invariance(signature, parts.sessions[signature.name], parts.golden)
        if parts.golden.sample_case is not None:
            replay_sample(parts, parts.golden.sample_case)

    def _serve(self, parts: Parts, failed: Doctor, progress: _Progress) -> ServedModel:
        model, statistics = parts.model, parts.statistics
        backlog = Backlog(self._config.max_queue_rows, shared=self._config.fair_queue)
        batchers: dict[str, Batcher] = {}
        on_cpu = self._provider == CPU
        for signature in _unless(progress.stopping, model):
            session = parts.sessions[signature.name]
            seconds = profile(session, _buckets(signature), alone=on_cpu and self._config.intra_op_threads == 1)
            plan = choose_policy(seconds, self._config, cores() if on_cpu else 1)
            series = RunSeries(self._metrics, model.name, model.version, signature.name)
            traced = self._traced(model, signature.name)
            batchers[signature.name] = Batcher(session, plan, backlog, self._dispatcher, series, failed, traced)
            _LOGGER.debug("%s version %s %s: %s", model.name, model.version, signature.name, plan)
        test = partial(self._self_test, parts, progress.stopping, note=False)
        return ServedModel(
            model=model,
            batchers=batchers,
            input_types={name: session.dtype for name, session in parts.sessions.items()},
            statistics=statistics,
            drift=Drift(self._metrics, model.name, model.version, statistics),
            provider=self._provider,
            opset=parts.opset,
            interrupt=progress.interrupt,
            self_test=partial(bounded, test, self._config.load_timeout_seconds, "self-test"),
        )

    def _traced(self, model: Model, signature: str) -> Callable[[Iterable[Call], float, float], None] | None:
        if self._tracer is None:
            return None
        return partial(self._tracer.ran, Graph(model.name, model.version, signature))


def _unless(stopping: Callable[[], bool], model: Model) -> Iterator[Signature]:
    """Signatures of a model, until the server closes."""
    for signature in model.signatures:
        if stopping():
            raise LoadStoppedError
        yield signature


def announce(metrics: Metrics, served: ServedModel) -> None:
    """Set the gauges of a version that serves from now on."""
    name, version = served.name, served.version
    labels = (name, version, served.model.family, served.provider, str(served.opset))
    metrics.models.info.labels(*labels).set(1)
    metrics.models.ready.labels(name, version).set(1)
    for signature, batcher in served.batchers.items():
        metrics.watch((name, version, signature), lambda queue=batcher.queue: queue.rows)
    metrics.models.alarm_share.labels(name, version).set(alarm_share(served.statistics))
    if served.statistics is not None and len(served.statistics.quantile_levels):
        for level in _QUANTILES:
            value = served.statistics.reconstruction_error_quantile(level)
            metrics.models.error_quantile.labels(name, version, f"{level:g}").set(value)


def _buckets(signature: Signature) -> Sequence[int]:
    """Batch sizes to run; a loose graph whose rows depend on their company, as with dynamic int8, runs alone."""
    if signature.golden_tolerance > 0 and not signature.batch_invariant:
        return (1,)
    return sorted(signature.batch_buckets) or DEFAULT_BUCKETS
