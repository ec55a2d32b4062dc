"""Readiness: whether this server should get traffic, and why not."""

from dataclasses import dataclass
from threading import Lock

from server.models.table import ModelTable, Snapshot, listing


@dataclass(frozen=True)
class Readiness:
    """Result of one check."""

    ready: bool
    reason: str


class ReadinessCheck:
    """Ready when the first scan has ended and a model serves.

    `strict` also requires every model at the start, and from then on every model that has served: a new model that
    does not load must keep new servers out of traffic, but not take out those that serve.
    """

    def __init__(self, table: ModelTable, *, strict: bool) -> None:
        self._table = table
        self._strict = strict
        self._stopping = False
        self._lock = Lock()
        self._started = False
        self._have_served: set[str] = set()

    def stop(self) -> None:
        """Never be ready again."""
        self._stopping = True

    def check(self) -> Readiness:
        """Check now."""
        snapshot = self._table.snapshot
        failed = listing(_problems(snapshot))
        if self._stopping:
            return Readiness(ready=False, reason="stopping")
        if not self._table.scanned:
            lost = f"; {_lost(snapshot)}" if snapshot.problem else ""
            return Readiness(ready=False, reason=f"starting: models are being loaded{lost}")
        if self._table.blocked:
            return Readiness(ready=False, reason=f"a graph run that does not end blocks the transport: {failed}")
        if not snapshot.models:
            return Readiness(
                ready=False,
                reason=f"no model serves: {failed or 'the repository holds no <name>/<version>/model.json'}",
            )
        if self._strict and self._misses_models(snapshot):
            return Readiness(ready=False, reason=f"not every model serves: {failed}")
        served = self._table.all()
        providers = " and ".join(sorted({one.provider for one in served}))
        reason = f"{len(served)} versions serve on {providers}" + (f"; {failed}" if failed else "")
        return Readiness(ready=True, reason=reason)

    def serving(self, services: tuple[str, ...]) -> dict[str, bool]:
        """Whether the server, each model and each service serve, by name for grpc.health.v1."""
        snapshot = self._table.snapshot
        ready = self.check().ready
        names = {name for name, _ in snapshot.unavailable} | set(snapshot.models)
        models = {name: name in snapshot.models and not self._stopping for name in names}
        return {"": ready, **models, **dict.fromkeys(services, ready)}

    def _misses_models(self, snapshot: Snapshot) -> bool:
        # A version that does not serve is not missed while another version of its model does.
        known = {name for name, _ in snapshot.unavailable} | {each.model for each in snapshot.misplaced}
        missing = known - set(snapshot.models)
        with self._lock:
            # A deleted model is not missed.
            self._have_served = self._have_served & known | set(snapshot.models)
            if self._started:
                missing &= self._have_served
            self._started = self._started or not missing
        return bool(missing)


def _lost(snapshot: Snapshot) -> str:
    return f"the repository {snapshot.problem}"


def _problems(snapshot: Snapshot) -> list[str]:
    """What an operator should look at."""
    notes = sorted(snapshot.notes.items())
    return [
        *([_lost(snapshot)] if snapshot.problem else []),
        *snapshot.reasons(),
        *(f"{name} version {number}: {note}" for (name, number), note in notes),
        *(f"{each.path} is not served: {each.why}" for each in snapshot.misplaced),
    ]
