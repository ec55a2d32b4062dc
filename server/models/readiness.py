"""Whether this server should get traffic, and why not."""

from dataclasses import dataclass
from threading import Lock

from server.models.table import ModelTable, Snapshot


@dataclass(frozen=True)
class Readiness:
    """One answer."""

    ready: bool
    reason: str


class ReadinessCheck:
    """Ready: the first scan has ended and a model serves.

    Strictly, all of them must serve at the start, and those that have served must go on: a model that comes later and
    does not load is a reason to keep new servers out, and none to take out those that serve.
    """

    def __init__(self, table: ModelTable, *, strict: bool) -> None:
        self._table = table
        self._strict = strict
        self._stopping = False
        self._lock = Lock()
        self._started = False
        self._have_served: set[str] = set()

    def stop(self) -> None:
        """Not ready from now on."""
        self._stopping = True

    def check(self) -> Readiness:
        """Ready or not, now."""
        snapshot = self._table.snapshot
        failed = "; ".join(
            f"{name} version {number}: {why}" for (name, number), why in sorted(snapshot.unready.items())
        )
        if self._stopping:
            return Readiness(ready=False, reason="stopping")
        if not self._table.scanned:
            return Readiness(ready=False, reason="starting: models are being loaded")
        if self._table.blocked:
            return Readiness(ready=False, reason=f"a graph run that does not end holds the transport: {failed}")
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
        """Status per name for grpc.health.v1."""
        snapshot = self._table.snapshot
        ready = self.check().ready
        names = {name for name, _ in snapshot.unready} | set(snapshot.models)
        models = {name: name in snapshot.models and not self._stopping for name in names}
        return {"": ready, **models, **dict.fromkeys(services, ready)}

    def _misses_models(self, snapshot: Snapshot) -> bool:
        # A version that another one of its model stands in for is missed by nobody.
        known = {name for name, _ in snapshot.unready}
        missing = known - set(snapshot.models)
        with self._lock:
            # A model that has been deleted is forgotten.
            self._have_served = self._have_served & known | set(snapshot.models)
            if self._started:
                missing &= self._have_served
            self._started = self._started or not missing
        return bool(missing)
