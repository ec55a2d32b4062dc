"""Reconcile: from the replicas there are and those there should be, the next steps. Pure: no clock, no Ray."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """State of a replica."""

    STARTING = "starting"
    READY = "ready"
    LOST = "lost"
    """It was ready, and has not answered so for a while: its node may be cut off, or its cores too busy."""
    STOPPING = "stopping"
    FAILED = "failed"
    """Its process ended, or it was not ready in time."""


@dataclass(frozen=True)
class Seen:
    """One replica, as last observed."""

    name: str
    revision: str
    phase: Phase
    reason: str = ""
    was_ready: bool = False


@dataclass(frozen=True)
class Wanted:
    """How many replicas of which revision; `next` is one on trial, None when no upgrade is under way."""

    count: int
    current: str
    next: str | None = None


@dataclass(frozen=True)
class Start:
    """Start one more replica of a revision."""

    revision: str


@dataclass(frozen=True)
class Stop:
    """Let a replica answer what it has accepted, and end."""

    name: str


@dataclass(frozen=True)
class Remove:
    """Forget a replica that has failed."""

    name: str


@dataclass(frozen=True)
class Refuse:
    """Give up the upgrade; the current revision stays."""

    reason: str


@dataclass(frozen=True)
class Promote:
    """The upgrade is complete: `next` becomes current."""


Step = Start | Stop | Remove | Refuse | Promote
# Those stopped first when there are too many.
_STOP_ORDER = (Phase.LOST, Phase.STARTING, Phase.READY)


def decide(wanted: Wanted, seen: Sequence[Seen], room: int) -> list[Step]:
    """The next steps; the same state gives the same steps.

    Args:
        wanted: what there should be.
        seen: what there is, oldest first.
        room: how many more replicas fit into the cluster now.
    """
    removals: list[Step] = [Remove(each.name) for each in seen if each.phase is Phase.FAILED]
    failed = [each for each in seen if each.phase is Phase.FAILED and each.revision == wanted.next]
    # One that was ready and died since is healed, not held against its revision.
    if bad := [each for each in failed if not each.was_ready]:
        return [*removals, Refuse(bad[0].reason)]
    active = [each for each in seen if each.phase not in {Phase.FAILED, Phase.STOPPING}]
    target = wanted.next or wanted.current
    new = [each for each in active if each.revision == target]
    old = [each for each in active if each.revision != target]
    # Until one that stops or has failed is gone, its place is not free: nothing else is stopped to make room.
    leaving = len(active) < len(seen)
    plan = _roll if wanted.next is not None else _hold
    return [*removals, *plan(wanted, new, old, room=room, leaving=leaving)]


def _hold(wanted: Wanted, new: list[Seen], old: list[Seen], *, room: int, leaving: bool) -> list[Step]:
    """Keep `count` replicas of the current revision; those of a refused one leave when they are no longer needed."""
    alive = [each for each in new if each.phase is not Phase.LOST]
    missing = max(0, wanted.count - len(alive))
    surplus = 0 if missing else len(new) - wanted.count
    replaced = _ready(new) >= wanted.count
    # All may be lost at once, to a busy machine: they go on serving until others are ready.
    over = [each for each in sorted(new, key=_stop_rank)[:surplus] if replaced or each.phase is not Phase.LOST]
    if replaced:
        over += old
    elif missing and not room and not leaving and _ready(new) + _ready(old) > 1:
        over += sorted(old, key=_stop_rank)[:1]
    else:
        over += [each for each in old if each.phase is not Phase.READY]
    return [*(Stop(each.name) for each in over), *(Start(wanted.current) for _ in range(min(missing, room)))]


def _roll(wanted: Wanted, new: list[Seen], old: list[Seen], *, room: int, leaving: bool) -> list[Step]:
    """Replace one replica at a time: start a new one, stop an old one when it is ready; without room the other way."""
    waiting = [each for each in new if each.phase is not Phase.READY]
    if waiting:
        return _await(waiting, _ready(new) + _ready(old), wanted.next or wanted.current, room)
    if not old and len(new) >= wanted.count:
        return [Promote()]
    surplus = len(new) + len(old) > wanted.count
    if room > 0 and not (old and surplus):
        return [Start(wanted.next or wanted.current)]
    if old and not leaving and (surplus or _ready(old) + _ready(new) > 1):
        return [Stop(min(old, key=_stop_rank).name)]
    if leaving or not old or not _ready(old):
        return []
    return [Refuse("the only replica cannot be replaced without a gap: no node has room for a second one")]


def _await(waiting: list[Seen], ready: int, revision: str, room: int) -> list[Step]:
    """Those of the new revision that start have time; lost ones go, unless all are lost at once, as in `_hold`."""
    if ready:
        return [Stop(each.name) for each in waiting if each.phase is Phase.LOST]
    is_tried = any(each.phase is Phase.STARTING for each in waiting)
    return [] if is_tried or not room else [Start(revision)]


def _stop_rank(replica: Seen) -> int:
    return _STOP_ORDER.index(replica.phase)


def _ready(replicas: Sequence[Seen]) -> int:
    return sum(each.phase is Phase.READY for each in replicas)
