"""Controller: the reconcile loop of a cluster, a Ray actor that is restarted wherever a node is left."""

import dataclasses
import json
import logging
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.experimental import internal_kv

from deploy.ray import endpoints
from deploy.ray.actors import Publisher
from deploy.ray.decision import Phase, Refuse, Remove, Seen, Start, Step, Stop, Wanted, decide
from deploy.ray.fleet import Fleet, Row
from deploy.ray.scaling import Autoscaler
from deploy.ray.settings import ClusterError, ClusterSettings, parse

NAME = "controller"
_LOGGER = logging.getLogger(__name__)
# Ray Serve keeps its state so; there is no public way.
_STORE: Any = internal_kv
_KEY = b"hourglass-cluster"
_LEADER = b"hourglass-controller"
# After a replica that never became ready: doubled each time, up to the second.
_BACKOFF_SECONDS = (1.0, 30.0)
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Status:
    """What `status` shows."""

    revision: str
    trial: str | None
    refused: str
    problem: str
    """Why the newest replica of the current revision failed before it was ready."""
    count: int
    room: int | None
    """How many more replicas fit; None until the controller has looked."""
    published: int
    unpublished: str
    """Why the file of endpoints could not be written somewhere."""
    rows: list[Row]


class Controller:
    """Makes the replicas there are those there should be. What should be is kept in Ray's store, next to the actors."""

    def __init__(self, settings: str, incarnation: str = "") -> None:
        """Take up what this controller left when its node died, and start the loop.

        Args:
            settings: what `up` asks for.
            incarnation: a name of that `up`. What another one has stored does not count, if its controller was ended
                otherwise than by `down`: its replicas are taken over, its settings are not. Ray restarts an actor with
                the arguments that it once had: a controller of an earlier release has no name.
        """
        stored: bytes | None = _STORE._internal_kv_get(_KEY)  # noqa: SLF001 (see _STORE)
        state = taken_up(stored, json.loads(settings), incarnation)
        self._incarnation = incarnation
        self._identity = uuid.uuid4().bytes
        _STORE._internal_kv_put(_LEADER, self._identity, overwrite=True)  # noqa: SLF001 (as above)
        self._current = parse(state["current"])
        self._next = parse(state["next"]) if state.get("next") else None
        self._refused: str = state.get("refused", "")
        self._down: bool = state.get("down", False)
        self._lock = threading.Lock()
        self._fleet = Fleet()
        self._scaler = Autoscaler(self._current.scaling)
        self._count = max(self._current.scaling.least, self._fleet.adopt())
        self._room: int | None = None
        self._problem, self._failures, self._not_before = "", 0, 0.0
        self._publishers: dict[str, tuple[Any, Any]] = {}
        self._published = 0
        # By node; "" is the controller's own.
        self._unpublished: dict[str, str] = {}
        self._store()
        threading.Thread(target=self._run, name="reconcile", daemon=True).start()

    def status(self) -> Status:
        """The state now."""
        with self._lock:
            trial = self._next.revision if self._next else None
            count = 0 if self._down else self._count
            rows = self._fleet.table()
            unpublished = next(iter(self._unpublished.values()), "")
            return Status(
                self._current.revision,
                trial,
                self._refused,
                self._problem,
                count,
                self._room,
                self._published,
                unpublished,
                rows,
            )

    def upgrade(self, settings: str) -> str | None:
        """Roll to other settings or models; the revision on trial, or None where replicas need not be replaced.

        Raises:
            ClusterError: another upgrade is under way.
        """
        asked = parse(json.loads(settings))
        with self._lock:
            if self._next is not None:
                raise ClusterError(f"an upgrade to {self._next.revision} is under way: wait for it, see `status`")
            self._refused = ""
            if asked.revision == self._current.revision:
                self._apply(asked)
            else:
                self._next = asked
            self._store()
            return self._next.revision if self._next else None

    def scale(self, least: int, most: int) -> None:
        """Change the limits of autoscaling; equal ones fix the number of replicas."""
        with self._lock:
            scaling = dataclasses.replace(self._current.scaling, least=least, most=most)
            self._apply(dataclasses.replace(self._current, scaling=scaling))
            if self._next is not None:
                self._next = dataclasses.replace(self._next, scaling=scaling)
            self._store()

    def down(self) -> None:
        """Stop all replicas in order."""
        with self._lock:
            self._down, self._next = True, None
            self._store()

    def _run(self) -> None:
        while True:
            start = time.monotonic()
            try:
                names = self._fleet.names()
                # Asked after the list: one that is older than this answer is not acted on by two.
                if self._is_superseded():
                    _LOGGER.warning("another controller has taken over: this one, which was cut off, ends")
                    return
                self._fleet.stop_others(names)
                self._reconcile()
            # A loop that ends heals nothing any more.
            except Exception:
                _LOGGER.exception("a step failed, and is repeated")
                time.sleep(_PAUSE_SECONDS)
            time.sleep(max(0.0, self._current.replicas.interval_seconds - (time.monotonic() - start)))

    def _is_superseded(self) -> bool:
        """Whether Ray has started this controller again elsewhere: on a node that was cut off the old one runs on.

        What it asked of Ray meanwhile would be done once its node is back.
        """
        return _STORE._internal_kv_get(_LEADER) != self._identity  # noqa: SLF001 (as above)

    def _reconcile(self) -> None:
        trial = self._next.revision if self._next else None
        seen = self._fleet.observe(self._current, trial)
        # What has not answered yet may serve: no list of endpoints without it, and no step that takes it for starting.
        if not self._fleet.is_known():
            return
        room = self._fleet.room(self._next or self._current)
        with self._lock:
            self._count = self._scaler.count(self._count, self._fleet.rows_waiting())
            wanted = Wanted(0 if self._down else self._count, self._current.revision, trial)
            steps = decide(wanted, seen, room if time.monotonic() >= self._not_before else 0)
            for step in steps:
                _LOGGER.warning("%s", step)
                self._take(step)
            self._room = room - sum(isinstance(step, Start) for step in steps)
            self._judge(seen)
        # Envoy knows of a stop before it begins.
        self._publish()
        self._fleet.signal()

    def _take(self, step: Step) -> None:
        if isinstance(step, Start):
            on_trial = self._next is not None and self._next.revision == step.revision
            self._fleet.start(self._next if on_trial and self._next else self._current)
        elif isinstance(step, Stop):
            self._fleet.stop(step.name)
        elif isinstance(step, Remove):
            self._fleet.remove(step.name)
        elif isinstance(step, Refuse):
            self._refused, self._next = step.reason, None
            self._store()
        elif self._next is not None:
            self._apply(self._next)
            self._next = None
            self._store()

    def _judge(self, seen: Sequence[Seen]) -> None:
        """Back off when replicas of the current revision fail before they are ready."""
        ours = [each for each in seen if each.revision == self._current.revision]
        bad = [each for each in ours if each.phase is Phase.FAILED and not each.was_ready]
        if bad:
            self._not_before = time.monotonic() + backoff_seconds(self._failures)
            self._problem, self._failures = bad[-1].reason, self._failures + 1
        elif ours and all(each.phase is Phase.READY for each in ours):
            self._problem, self._failures = "", 0

    def _apply(self, settings: ClusterSettings) -> None:
        if settings.scaling != self._current.scaling:
            self._scaler = Autoscaler(settings.scaling)
        self._current = settings

    def _store(self) -> None:
        state = {
            # As earlier releases called it.
            "birth": self._incarnation,
            "current": dataclasses.asdict(self._current),
            "next": dataclasses.asdict(self._next) if self._next else None,
            "refused": self._refused,
            "down": self._down,
        }
        _STORE._internal_kv_put(_KEY, json.dumps(state).encode(), overwrite=True)  # noqa: SLF001 (as above)

    def _publish(self) -> None:
        where, addresses = self._current.ray, self._fleet.addresses()
        targets = where.envoys or [""]
        self._unpublished = {each: reason for each, reason in self._unpublished.items() if each in targets}
        # All lost or dead at once may be this controller's own blindness: Envoy keeps what it knows.
        if not addresses and not self._down:
            return
        text = endpoints.assignment(addresses)
        self._published = len(addresses)
        if not where.envoys:
            try:
                endpoints.publish(Path(where.endpoints), text)
            except OSError as error:
                # What is to stop stops all the same: it says NOT_SERVING itself.
                self._unpublished[""] = str(error)
            else:
                self._unpublished.pop("", None)
        for node in where.envoys:
            self._publish_on(node, where.endpoints, text)

    def _publish_on(self, node: str, folder: str, text: str) -> None:
        """Let the publisher of a node write, if it is not busy: its node may be away."""
        actor, owed = self._publishers.get(node, (None, None))
        if owed is not None and not ray.wait([owed], timeout=0)[0]:
            return
        try:
            ray.get(owed or [])
            self._unpublished.pop(node, None)
        except RayTaskError as error:
            self._unpublished[node] = f"{node}: {error.cause}"
        except RayError:
            actor = None
        if actor is None:
            made: Any = ray.remote(Publisher)
            actor = made.options(num_cpus=0, resources={f"node:{node}": 0.001}, max_restarts=-1).remote()
        self._publishers[node] = (actor, actor.publish.remote(folder, text))


def taken_up(stored: bytes | None, asked: dict[str, Any], incarnation: str) -> dict[str, Any]:
    """What a controller goes on with: what it has stored itself, or what `up` asked for."""
    state: dict[str, Any] = json.loads(stored) if stored else {}
    return state if state and state.get("birth", "") == incarnation else {"current": asked}


def backoff_seconds(failures: int) -> float:
    """How long to wait after so many failures before this one."""
    first, longest = _BACKOFF_SECONDS
    # 2.0 to a power of 1,024 is no float any more, and failures may go on for days.
    return min(longest, first * 2.0 ** min(failures, 16))


def forget() -> None:
    """Delete the state that a controller has stored. Which one leads stays: one that was cut off still learns of it."""
    _STORE._internal_kv_del(_KEY)  # noqa: SLF001 (as above)
