"""Model loader: every check of a bundle, then warm-up, in the order that docs/architecture.md lists."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from autoencoder.v1.model_pb2 import Model, Signature
from autoencoder.v1.shapes import Shapes

from bundle import layout
from bundle.compatibility import check_golden, check_model, check_statistics
from bundle.errors import BundleError
from bundle.golden import Golden
from bundle.graph import check_graph
from bundle.graph_memory.trial import MAX_BATCH, trial_side, untiled_pixels
from bundle.latents import LatentStatistics
from server.batching.batcher import Batcher
from server.batching.entry import Backlog
from server.batching.executor import Executor
from server.batching.gradual import Room
from server.batching.policy import BatchPolicy, Profiler, choose_policy
from server.batching.run import OnRunFailed, RunHooks
from server.batching.shaped import ShapedGraph
from server.batching.shaped_batcher import ShapedBatcher, ShapedQueue, cells
from server.calls.call import Call
from server.calls.tracing import Tracer, run_attributes
from server.config import Config
from server.metrics.drift import Drift
from server.metrics.registry import Metrics, RunSeries
from server.models.self_test import LoadedBundle, check_invariance, prove_tiles, replay, replay_sample
from server.models.signing import SigningVerifier
from server.models.table import ServedModel
from server.models.watchdog import CancelledError, TimedOutError, run_with_timeout
from server.runtime.cpu import cores
from server.runtime.providers import ExecutionProvider, provider_for
from server.runtime.session import DEFAULT_BUCKETS, DeviceError, Interrupt, Session, is_uniform

_LOGGER = logging.getLogger(__name__)
# Rows of images smaller than a tile that may share a run, whatever the buckets of tiles: export tries as many.
_SMALL_ROWS = 16


class _Progress:
    """How far a load has come, and whether it is cancelled."""

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self.interrupt = Interrupt()
        self.result = "invalid"
        """Result to count if the load ends now."""
        self._cancelled = cancelled
        self._abandoned = False

    def cancelled(self) -> bool:
        """Whether the outcome is not needed any more."""
        return self._abandoned or self._cancelled()

    def abandon(self) -> None:
        """End the load at its next step, and interrupt the graph that runs."""
        self._abandoned = True
        self.interrupt.set()


class Loader:
    """Makes served models of bundles."""

    def __init__(
        self,
        config: Config,
        provider: ExecutionProvider,
        signing: SigningVerifier,
        executor: Executor,
        metrics: Metrics,
        tracer: Tracer | None,
    ) -> None:
        self._config = config
        self._signing = signing
        self._provider = provider
        self._executor = executor
        self._metrics = metrics
        self._tracer = tracer
        self._profiler = Profiler()
        self.concurrent_loads = provider.concurrent_loads(config)
        """How many versions may be read and checked at a time."""
        self.max_bytes = config.max_model_bytes
        """Largest size of the files of a version."""

    def load(
        self,
        folder: Path,
        name: str,
        version: int,
        on_run_failed: OnRunFailed,
        cancelled: Callable[[], bool],
    ) -> ServedModel:
        """Load, check and warm up one version; `on_run_failed` is called when a run of one of its sessions fails.

        Raises:
            CancelledError: `cancelled` has become true.
            BundleError: the bundle is invalid, does not reproduce its golden outputs, or takes too long to load.
            DeviceError: the provider is unavailable.
        """
        started = time.monotonic()
        progress = _Progress(cancelled)
        limit_seconds = self._config.load_timeout_seconds
        result = None
        try:
            load = partial(self._load, folder, name, version, on_run_failed, progress)
            return run_with_timeout(load, limit_seconds, "load", cancelled)
        except CancelledError:
            result = "stopped"
            progress.abandon()
            raise
        except DeviceError:
            result = "device_failed"
            raise
        except TimedOutError as error:
            result = "timed_out"
            progress.abandon()
            raise BundleError(f"its load has taken longer than {limit_seconds:g} s") from error
        finally:
            self._metrics.models.loads.labels(name, result or progress.result).inc()
            self._metrics.models.load_seconds.observe(name, time.monotonic() - started)

    def _load(
        self, folder: Path, name: str, version: int, on_run_failed: OnRunFailed, progress: _Progress
    ) -> ServedModel:
        parts = self._read(folder, name, version, progress)
        progress.result = "self_test_failed"
        errors = self._self_test(parts, progress.cancelled)
        exact = self._prove_tiles(parts, progress.cancelled)
        progress.result = "warm_up_failed"
        served = self._serve(parts, errors, exact, on_run_failed, progress)
        progress.result = "ok"
        return served

    def _read(self, folder: Path, name: str, version: int, progress: _Progress) -> LoadedBundle:
        model = layout.read_model(folder)
        if (model.name, model.version) != (name, str(version)):
            raise BundleError(
                f"{folder}: expected model {name} version {version}, got {model.name} {model.version}: "
                "move the bundle to the <name>/<version> that its model.json states, or export it under this name"
            )
        self._check_size(folder, model)
        self._signing.verify(folder, model)
        check_model(model)
        files = layout.read_files(folder, model)
        statistics = None
        if layout.LATENTS_FILE in files:
            statistics = LatentStatistics.from_bytes(files[layout.LATENTS_FILE])
        check_statistics(model, statistics)
        most = self._config.max_run_bytes
        shapes = Shapes.of(model)
        opsets = [
            check_graph(files[s.file], s, imported=model.imported, max_run_bytes=most, shapes=shapes).opset
            for s in model.signatures
        ]
        untiled = {
            s.name: untiled_pixels(files[s.file], s, shapes, self._config.max_untiled_pixels, most)
            for s in model.signatures
            if shapes.free and not s.HasField("tiling")
        }
        provider = provider_for(model, self._provider, self._config)
        sessions = {
            signature.name: provider.open(signature, files[signature.file], self._config, progress.interrupt)
            for signature in _until_cancelled(progress.cancelled, model)
        }
        golden = Golden.from_bytes(files[layout.GOLDEN_FILE])
        return LoadedBundle(model, golden, statistics, provider, sessions, max(opsets), untiled)

    def _check_size(self, folder: Path, model: Model) -> None:
        got, most = sum(file.size_bytes for file in model.files), self._config.max_model_bytes
        if got > most:
            raise BundleError(
                f"{folder}: expected files of at most {most} bytes together, got {got}: raise --max-model-bytes "
                "if there is memory for three times as much"
            )

    def _self_test(self, parts: LoadedBundle, cancelled: Callable[[], bool]) -> dict[str, float]:
        """Largest error of the golden vectors, by signature."""
        errors: dict[str, float] = {}
        check_golden(parts.model, parts.golden)
        for signature in _until_cancelled(cancelled, parts.model):
            errors[signature.name] = replay(signature, parts.sessions[signature.name], parts.golden)
            if signature.batch_invariant and parts.provider.deterministic:
                check_invariance(signature, parts.sessions[signature.name], parts.golden)
        if parts.golden.sample_case is not None:
            replay_sample(parts, parts.golden.sample_case)
        return errors

    def _prove_tiles(self, parts: LoadedBundle, cancelled: Callable[[], bool]) -> dict[str, bool]:
        """Whether the tiles of a graph have the bits of the whole image here, by signature."""
        exact: dict[str, bool] = {}
        for signature in _until_cancelled(cancelled, parts.model):
            if signature.HasField("tiling"):
                held = prove_tiles(signature, parts.sessions[signature.name], parts.model.noise_level.maximum)
                exact[signature.name] = held and signature.tiling.exact
                if signature.tiling.exact and not held:
                    _LOGGER.warning("%s: tiles do not have the bits of the whole image here", signature.file)
        return exact

    def _serve(
        self,
        parts: LoadedBundle,
        errors: Mapping[str, float],
        exact: Mapping[str, bool],
        on_run_failed: OnRunFailed,
        progress: _Progress,
    ) -> ServedModel:
        model, statistics = parts.model, parts.statistics
        drift = Drift(self._metrics, model, statistics, parts.density)
        backlog = Backlog(self._config.max_queue_rows, shared=self._config.fair_queue)
        batchers: dict[str, Batcher] = {}
        shaped: dict[str, ShapedGraph] = {}
        room = Room(self._config.max_queue_pixels, self._config.max_request_pixels, shared=self._config.fair_queue)
        for signature in _until_cancelled(progress.cancelled, model):
            session = parts.sessions[signature.name]
            series = RunSeries(self._metrics, model.name, model.version, signature.name)
            traced = self._traced(model, signature.name)
            policy = self._policy(parts.provider, session, signature, Shapes.of(model))
            # Windows are no images: of graphs that may have them, callers of `shaped` observe the answers.
            observed = is_uniform(signature)
            hooks = RunHooks(series, on_run_failed, traced, drift.observer(signature.name) if observed else None)
            if is_uniform(signature):
                batchers[signature.name] = Batcher(session, policy, backlog, self._executor, hooks)
            else:
                batcher = self._shaped_batcher(session, signature, Shapes.of(model), policy, backlog, hooks)
                shaped[signature.name] = ShapedGraph(
                    batcher,
                    signature,
                    Shapes.of(model),
                    exact=exact.get(signature.name, True),
                    untiled_pixels=parts.untiled_pixels.get(signature.name, 0),
                    room=room,
                )
                batchers[signature.name] = batcher
            _LOGGER.debug("%s version %s %s: %s", model.name, model.version, signature.name, policy)
        test = partial(self._self_test, parts, progress.cancelled)
        return ServedModel(
            model=model,
            batchers=batchers,
            shaped=shaped,
            input_types={name: session.dtype for name, session in parts.sessions.items()},
            statistics=statistics,
            drift=drift,
            provider=parts.provider.name,
            opset=parts.opset,
            interrupt=progress.interrupt,
            self_test_errors=errors,
            self_test=partial(run_with_timeout, test, self._config.load_timeout_seconds, "self-test"),
        )

    def _policy(
        self, provider: ExecutionProvider, session: Session, signature: Signature, shapes: Shapes
    ) -> BatchPolicy:
        """Warm up a graph, and choose how it is run."""
        side = trial_side(signature, shapes)
        alone = provider.runs_on_caller(self._config)
        seconds = self._profiler.profile(session, _buckets(signature), alone=alone, side=side)
        policy = choose_policy(seconds, self._config, cores() if provider.uses_cores else 1)
        # A graph that is quick at one size need not be so at another, and Score is many runs.
        return replace(policy, inline=False) if shapes.free or signature.name == "log_weights" else policy

    def _shaped_batcher(
        self,
        session: Session,
        signature: Signature,
        shapes: Shapes,
        policy: BatchPolicy,
        backlog: Backlog,
        hooks: RunHooks,
    ) -> ShapedBatcher:
        small = _SMALL_ROWS if shapes.free and signature.batch_invariant else 1
        most_rows = min(self._config.max_batch_rows or MAX_BATCH, max(small, *_buckets(signature)))
        window = session.zeros(1, trial_side(signature, shapes))[0].shape[1:]
        queue = ShapedQueue(backlog, policy.max_rows, policy.max_rows * cells(window), most_rows)
        return ShapedBatcher(session, policy, backlog, self._executor, hooks, queue)

    def _traced(self, model: Model, signature: str) -> Callable[[Iterable[Call], float, float], None] | None:
        if self._tracer is None:
            return None
        return partial(self._tracer.ran, run_attributes(model.name, model.version, signature))


def _until_cancelled(cancelled: Callable[[], bool], model: Model) -> Iterator[Signature]:
    """Signatures of a model, until the load is cancelled."""
    for signature in model.signatures:
        if cancelled():
            raise CancelledError
        yield signature


def _buckets(signature: Signature) -> Sequence[int]:
    """Batch sizes to run: 1 alone if outputs are tolerance-based and depend on the batch, as with dynamic int8."""
    if signature.golden_tolerance > 0 and not signature.batch_invariant:
        return (1,)
    return sorted(signature.batch_buckets) or DEFAULT_BUCKETS
