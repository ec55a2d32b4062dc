"""Whether this server should get traffic, and why not."""

from dataclasses import dataclass

from server.models import ModelTable


@dataclass(frozen=True)
class Readiness:
    """One answer."""

    ready: bool
    reason: str


class ReadinessCheck:
    """Ready: the first scan has ended and a model serves; strictly, all of them do."""

    def __init__(self, table: ModelTable, *, strict: bool) -> None:
        self._table = table
        self._strict = strict
        self._stopping = False

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
        if not snapshot.models:
            return Readiness(ready=False, reason=f"no model serves: {failed or 'the repository is empty'}")
        # A version that another one of its model stands in for is missed by nobody.
        if self._strict and any(name not in snapshot.models for name, _ in snapshot.unready):
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
