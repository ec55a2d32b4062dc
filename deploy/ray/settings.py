"""Settings of a cluster: a TOML file, read strictly."""

import dataclasses
import hashlib
import json
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from server.config import Config
from server.settings import PREFIX, SettingsError

Table = TypeVar("Table")
# What a replica decides by itself.
_OWN = {"repository", "host", "port", "metrics_host", "metrics_port"}
_LAST_PORT = 65535


class ClusterError(Exception):
    """One sentence for the operator: what was expected, what came, what to do."""


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """Where Ray is, and where endpoints are written."""

    address: str = "auto"
    namespace: str = "hourglass"
    endpoints: str = "/var/lib/hourglass/endpoints"
    envoys: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, kw_only=True)
class ReplicaSettings:
    """What one replica takes, and how it is watched."""

    cores: float = 1.0
    gpus: float = 0.0
    port: int = 0
    metrics_port: int = 0
    interval_seconds: float = 0.5
    lost_seconds: float = 3.0
    start_seconds: float = 120.0


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Where bundles come from."""

    url: str = "/srv/models"
    cache: str = "/var/cache/hourglass"
    contents: str = ""
    """Name of what is at a URL: `up` and `upgrade` set it."""


@dataclass(frozen=True, kw_only=True)
class ScalingSettings:
    """How many replicas: between `least` and `most`, one for each `rows` rows waiting."""

    least: int = 1
    most: int = 1
    rows: float = 32.0
    up_seconds: float = 5.0
    down_seconds: float = 120.0


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The whole file."""

    ray: RaySettings = field(default_factory=RaySettings)
    replicas: ReplicaSettings = field(default_factory=ReplicaSettings)
    models: ModelSettings = field(default_factory=ModelSettings)
    scaling: ScalingSettings = field(default_factory=ScalingSettings)
    server: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def revision(self) -> str:
        """A name for what replicas run: equal for equal models, server settings, cores and ports."""
        replicas = self.replicas
        ports = [replicas.port, replicas.metrics_port]
        what = [self.models.url, self.models.contents, self.server, replicas.cores, replicas.gpus, ports]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]

    def with_models(self, url: str) -> "ClusterSettings":
        """The same with models from elsewhere."""
        return dataclasses.replace(self, models=dataclasses.replace(self.models, url=url))

    def with_contents(self, contents: str) -> "ClusterSettings":
        """The same, with a name of what is at the URL now."""
        return dataclasses.replace(self, models=dataclasses.replace(self.models, contents=contents))

    def as_json(self) -> str:
        """For the cluster's store."""
        return json.dumps(dataclasses.asdict(self))


def load(path: Path) -> ClusterSettings:
    """The settings of a file.

    Raises:
        ClusterError: it cannot be read, or a key or a value is wrong.
    """
    try:
        return parse(tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    except (tomllib.TOMLDecodeError, ClusterError) as error:
        raise ClusterError(f"{path}: {error}") from error


def parse(tables: dict[str, Any]) -> ClusterSettings:
    """The settings of parsed TOML or JSON.

    Raises:
        ClusterError: a key or a value is wrong.
    """
    known = get_type_hints(ClusterSettings)
    if unknown := sorted(tables.keys() - known.keys()):
        raise ClusterError(f"unknown table [{unknown[0]}]: expected {', '.join(known)}")
    if wrong := [name for name, table in tables.items() if not isinstance(table, dict)]:
        raise ClusterError(f"{wrong[0]}: expected a table, [{wrong[0]}]")
    server = {key: _text(value) for key, value in tables.get("server", {}).items()}
    parts: dict[str, Any] = {
        name: _table(name, known[name], tables.get(name, {})) for name in known.keys() - {"server"}
    }
    settings = ClusterSettings(**parts, server=server)
    _check(settings)
    return settings


def _table(name: str, kind: type[Table], given: dict[str, Any]) -> Table:
    hints = get_type_hints(kind)
    if unknown := sorted(given.keys() - hints.keys()):
        raise ClusterError(f"[{name}] {unknown[0]}: unknown key, expected one of {', '.join(hints)}")
    return kind(**{key: _value(f"[{name}] {key}", hints[key], value) for key, value in given.items()})


def _value(where: str, hint: Any, value: Any) -> Any:  # noqa: ANN401 (values of any type)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint == list[str] and isinstance(value, list) and all(isinstance(each, str) for each in value):  # pyright: ignore[reportUnknownVariableType]
        return value  # pyright: ignore[reportUnknownVariableType]
    is_finite = not isinstance(value, float) or math.isfinite(value)
    if hint in {str, int, float} and type(value) is hint and is_finite:
        return value
    kind = {str: "a string", int: "a whole number", float: "a finite number"}.get(hint, "a list of strings")
    raise ClusterError(f"{where}: expected {kind}, got {value!r}")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check(settings: ClusterSettings) -> None:
    replicas, scaling = settings.replicas, settings.scaling
    wrong = (
        (replicas.cores < 0 or replicas.gpus < 0, "[replicas] cores, gpus: expected 0 or more"),
        (replicas.cores + replicas.gpus <= 0, "[replicas] expected cores or gpus above 0: placement goes by them"),
        (
            max(replicas.port, replicas.metrics_port) > _LAST_PORT or min(replicas.port, replicas.metrics_port) < 0,
            f"[replicas] port, metrics_port: expected 0 to {_LAST_PORT}",
        ),
        (replicas.interval_seconds <= 0, "[replicas] interval_seconds: expected more than 0"),
        (
            replicas.lost_seconds < replicas.interval_seconds,
            f"[replicas] lost_seconds: expected at least interval_seconds, {replicas.interval_seconds:g}",
        ),
        (replicas.start_seconds <= 0, "[replicas] start_seconds: expected more than 0"),
        (scaling.least < 1, f"[scaling] least: expected 1 or more, got {scaling.least}"),
        (
            scaling.most < scaling.least,
            f"[scaling] most: expected at least `least`, {scaling.least}, got {scaling.most}",
        ),
        (scaling.rows <= 0, "[scaling] rows: expected more than 0"),
        (scaling.up_seconds < 0 or scaling.down_seconds < 0, "[scaling] up_seconds, down_seconds: expected 0 or more"),
        (not settings.models.url, "[models] url: expected a folder or a URL, got ''"),
    )
    for holds, sentence in wrong:
        if holds:
            raise ClusterError(sentence)
    _check_server(settings.server)


def _check_server(given: dict[str, str]) -> None:
    known = {each.name for each in dataclasses.fields(Config)}
    if unknown := sorted(given.keys() - known):
        raise ClusterError(f"[server] {unknown[0]}: unknown key, docs/configuration.md lists the server's settings")
    if own := sorted(given.keys() & _OWN):
        raise ClusterError(f"[server] {own[0]}: set by the replica itself; see [models] and [replicas]")
    try:
        Config.parse("server", ["--repository", "/"], {PREFIX + key.upper(): value for key, value in given.items()})
    except SettingsError as error:
        raise ClusterError(f"[server] {error}") from error
