"""The replicas that run on the cluster: started, adopted after a restart of the controller, probed, stopped."""

import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.util import list_named_actors

from deploy.ray.actors import Replica
from deploy.ray.decision import Phase, Seen
from deploy.ray.process import Probe
from deploy.ray.settings import ClusterSettings, ReplicaSettings

_PREFIX = "replica-"
_TAKEN_OVER = Probe(Phase.STARTING, "taken over, and has not answered yet")


@dataclass
class _Held:
    """One actor, the answer it owes, and what it said last."""

    name: str
    actor: Any
    started: float
    probe: Probe = field(default=Probe(Phase.STARTING, "waiting for its node"))
    owed: Any = None
    asked: int = 0
    was_ready: bool = False
    stopping: bool = False
    signalled: bool = False

    @property
    def revision(self) -> str:
        return self.name.split("-")[1]

    def answered(self, probe: Probe, limits: ReplicaSettings) -> None:
        """Take an answer. A replica that was ready and is not any more has as much time as a silent one: loads pass."""
        self.owed = None
        if self.was_ready and probe.phase is Phase.STARTING:
            self.missed(limits, f"ready no more: {probe.reason}")
            return
        self.probe, self.asked = probe, 0
        self.was_ready |= probe.phase in {Phase.READY, Phase.STOPPING}

    def missed(self, limits: ReplicaSettings, reason: str) -> None:
        """Count a question without a good answer; lost after `lost_seconds` of them, if it was ready or was taken over.

        Counted in questions, not in time: a controller that stood still itself must not blame its replicas.
        """
        self.asked += 1
        if (
            self.was_ready or self.probe is _TAKEN_OVER
        ) and self.asked * limits.interval_seconds >= limits.lost_seconds:
            self.probe = replace(self.probe, phase=Phase.LOST, reason=reason)


@dataclass(frozen=True)
class Row:
    """One line of `status`."""

    name: str
    address: str
    metrics_address: str
    revision: str
    phase: str
    rows: float
    age_seconds: float
    reason: str


class Fleet:
    """Handles of all replicas."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[str, _Held] = {}
        # Ray may list them for a moment more.
        self._removed: set[str] = set()

    def names(self) -> list[str]:
        """Names of all replicas that Ray knows, those that another controller started too."""
        return [name for name in list_named_actors() if name.startswith(_PREFIX)]

    def adopt(self) -> int:
        """Take over the replicas that an earlier controller started; how many. Whether they were ready is not known."""
        for name in self.names():
            # It may end in this moment.
            with suppress(ValueError):
                self._held[name] = _Held(name, ray.get_actor(name), self._clock(), _TAKEN_OVER)
        return len(self._held)

    def stop_others(self, names: Iterable[str]) -> None:
        """Stop, of these, the replicas that a controller asked for just before it was cut off: no other one will."""
        for name in names:
            if name not in self._held and name not in self._removed:
                with suppress(ValueError):
                    self._held[name] = _Held(name, ray.get_actor(name), self._clock(), stopping=True)

    def start(self, settings: ClusterSettings) -> None:
        """Start a replica somewhere; it is placed when a node has room."""
        revision, wanted = settings.revision, settings.replicas
        name = f"{_PREFIX}{revision}-{uuid.uuid4().hex[:6]}"
        options: dict[str, Any] = {"name": name, "lifetime": "detached", "scheduling_strategy": "SPREAD"}
        actor: Any = ray.remote(Replica)
        actor = actor.options(**options, num_cpus=wanted.cores, num_gpus=wanted.gpus)
        self._held[name] = _Held(name, actor.remote(settings.as_json(), revision), self._clock())

    def stop(self, name: str) -> None:
        """Take a replica out of the endpoints; `signal` lets it end."""
        self._held[name].stopping = True

    def signal(self) -> None:
        """Let what was stopped end in order; `observe` removes it when it has. Call it once endpoints are published."""
        for held in self._held.values():
            if held.stopping and not held.signalled:
                held.signalled = True
                held.actor.stop.remote()

    def remove(self, name: str) -> None:
        """End the actor, and with it what is left of the server."""
        self._removed.add(name)
        ray.kill(self._held.pop(name).actor)

    def observe(self, settings: ClusterSettings, trial: str | None) -> list[Seen]:
        """Ask all replicas, wait for an interval at most, and say how each is, oldest first.

        A bundle that a replica refused fails one of the revision on `trial`, even if it serves without that bundle.
        """
        for held in self._held.values():
            held.owed = held.owed or held.actor.probe.remote()
        owed = [held.owed for held in self._held.values()]
        if owed:
            ray.wait(owed, num_returns=len(owed), timeout=settings.replicas.interval_seconds)
        for held in self._held.values():
            self._update(held, settings, trial)
        for name in [name for name, held in self._held.items() if held.stopping and held.probe.phase is Phase.FAILED]:
            self.remove(name)
        return [
            Seen(held.name, held.revision, _phase(held), held.probe.reason, held.was_ready)
            for held in sorted(self._held.values(), key=lambda each: each.started)
        ]

    def is_known(self) -> bool:
        """Whether all that were taken over have answered or are lost; until then, one may be missing only here."""
        return all(held.probe is not _TAKEN_OVER for held in self._held.values())

    def addresses(self) -> list[str]:
        """Where traffic may go. A lost replica stays: Envoy's own health check knows better whether it answers."""
        serving = {Phase.READY, Phase.LOST}
        found = [held.probe.address for held in self._held.values() if _phase(held) in serving]
        return [address for address in found if address]

    def rows_waiting(self) -> float:
        """Rows in the queues of all replicas."""
        return sum(held.probe.rows for held in self._held.values())

    def room(self, settings: ClusterSettings) -> int:
        """How many more replicas fit, other work on the cluster left aside."""
        wanted = settings.replicas
        asked = {"CPU": wanted.cores, "GPU": wanted.gpus}
        nodes: list[dict[str, Any]] = ray.nodes()
        fits = [
            min(int(node["Resources"].get(kind, 0.0) / amount) for kind, amount in asked.items() if amount)
            for node in nodes
            if node["Alive"]
        ]
        return max(0, sum(fits) - len(self._held))

    def table(self) -> list[Row]:
        """All replicas, oldest first."""
        now = self._clock()
        held = sorted([*self._held.values()], key=lambda each: each.started)
        return [
            Row(
                each.name,
                each.probe.address,
                each.probe.metrics_address,
                each.revision,
                _phase(each),
                each.probe.rows,
                now - each.started,
                each.probe.reason,
            )
            for each in held
        ]

    def _update(self, held: _Held, settings: ClusterSettings, trial: str | None) -> None:
        limits = settings.replicas
        try:
            held.answered(ray.get(held.owed, timeout=0), limits)
        except TimeoutError:
            held.missed(limits, f"no answer for {limits.lost_seconds:g} s")
        except (RayActorError, RayError) as error:
            held.probe = Probe(Phase.FAILED, f"its process or its node ended ({type(error).__name__})")
        if held.revision == trial and held.probe.refused:
            held.probe = replace(held.probe, phase=Phase.FAILED)
        if held.probe.phase is Phase.STARTING and self._clock() - held.started > limits.start_seconds:
            reason = f"not ready after {limits.start_seconds:g} s: {held.probe.reason}"
            held.probe = Probe(Phase.FAILED, reason)


def _phase(held: _Held) -> Phase:
    return Phase.STOPPING if held.stopping and held.probe.phase is not Phase.FAILED else held.probe.phase
