"""`python -m deploy.ray up|down|status|upgrade|scale`: replicas of the server on a Ray cluster."""

import argparse
import logging
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorAlreadyExistsError, GetTimeoutError, RayActorError, RayError, RayTaskError

from deploy.ray.controller import NAME, Controller, Status, forget
from deploy.ray.decision import Phase
from deploy.ray.models import contents
from deploy.ray.reach import reach
from deploy.ray.settings import ClusterError, ClusterSettings, load

_PROGRAM = "python -m deploy.ray"
_SETTINGS = Path(__file__).with_name("cluster.toml")
_IS_UP = "it is up already: use `upgrade` or `scale`, or `down` first"
_ANSWER_SECONDS = 15.0
_POLL_SECONDS = 0.25


def main() -> int:
    """Run one command; 0 done, 1 it failed, 2 wrong settings."""
    arguments = _parser().parse_args()
    try:
        settings = load(arguments.settings)
    except ClusterError as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 2
    try:
        _connect(settings)
        arguments.run(settings, arguments)
    except RayTaskError as error:
        print(f"{_PROGRAM}: {error.cause}", file=sys.stderr)
        return 1
    except (ClusterError, RayError) as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(_PROGRAM, description="Replicas of the server on a Ray cluster.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("up", _up, "start the replicas, and wait until they are ready"),
        ("down", _down, "stop all replicas in order"),
        ("status", _status, "show the replicas in a table"),
        ("upgrade", _upgrade, "roll to the models and settings of --settings; a bad version is refused"),
        ("scale", _scale, "set the least and the most replicas"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--settings", type=Path, default=_SETTINGS, help=f"TOML file (default: {_SETTINGS})")
        command.add_argument("--wait-seconds", type=float, default=300.0, help="how long to wait (default: 300)")
        command.set_defaults(run=run)
        if name == "upgrade":
            command.add_argument("--models", help="instead of [models] url")
        if name == "scale":
            command.add_argument("least", type=int)
            command.add_argument("most", type=int, nargs="?", help="default: LEAST, no autoscaling")
    return parser


def _connect(settings: ClusterSettings) -> None:
    address = settings.ray.address
    advice = "start it (docs/scale-out.md), or name another in [ray] address"
    if address != "auto":
        try:
            reach(address)
        except (OSError, ValueError) as error:
            raise ClusterError(f"no Ray at {address}: {error}: {advice}") from error
    try:
        ray.init(address=address, namespace=settings.ray.namespace, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        raise ClusterError(f"no Ray at {address}: {error}: {advice}") from error


def _up(settings: ClusterSettings, arguments: argparse.Namespace) -> None:
    if _find() is not None:
        raise ClusterError(_IS_UP)
    settings = settings.with_contents(contents(settings.models.url))
    actor: Any = ray.remote(Controller)
    options: dict[str, Any] = {"name": NAME, "lifetime": "detached", "max_restarts": -1, "max_concurrency": 4}
    # Of two commands at the same time, Ray lets one have the name.
    try:
        controller = actor.options(**options, num_cpus=0).remote(settings.as_json(), uuid.uuid4().hex)
    except ActorAlreadyExistsError as error:
        raise ClusterError(_IS_UP) from error

    def is_up(status: Status) -> bool:
        if status.problem:
            raise ClusterError(f"a replica failed, and is tried again until `down`: {status.problem}")
        if status.unpublished:
            raise ClusterError(f"endpoints cannot be written, which is tried again until `down`: {status.unpublished}")
        _check_room(status)
        return _ready(status) >= status.count

    _wait(controller, is_up, arguments.wait_seconds)
    print(_table(_ask(controller.status.remote())))


def _down(_settings: ClusterSettings, arguments: argparse.Namespace) -> None:
    controller = _running()
    _ask(controller.down.remote())
    _wait(controller, lambda status: not status.rows, arguments.wait_seconds)
    ray.kill(controller, no_restart=True)
    forget()


def _status(_settings: ClusterSettings, _arguments: argparse.Namespace) -> None:
    print(_table(_ask(_running().status.remote())))


def _upgrade(settings: ClusterSettings, arguments: argparse.Namespace) -> None:
    controller = _running()
    if arguments.models:
        settings = settings.with_models(arguments.models)
    settings = settings.with_contents(contents(settings.models.url))
    revision = _ask(controller.upgrade.remote(settings.as_json())) or settings.revision

    def is_over(status: Status) -> bool:
        if status.refused:
            raise ClusterError(f"revision {revision} is refused, {status.revision} stays: {status.refused}")
        return status.trial is None and all(row.revision == status.revision for row in status.rows)

    _wait(controller, is_over, arguments.wait_seconds)
    print(_table(_ask(controller.status.remote())))


def _scale(_settings: ClusterSettings, arguments: argparse.Namespace) -> None:
    least, most = arguments.least, arguments.least if arguments.most is None else arguments.most
    if not 1 <= least <= most:
        raise ClusterError(f"expected 1 <= LEAST <= MOST, got {least} {most}")
    controller = _running()
    _ask(controller.scale.remote(least, most))

    def is_scaled(status: Status) -> bool:
        if least <= status.count <= most:
            _check_room(status)
        return least <= status.count <= most and _ready(status) == status.count == len(status.rows)

    _wait(controller, is_scaled, arguments.wait_seconds)
    print(_table(_ask(controller.status.remote())))


def _check_room(status: Status) -> None:
    if status.room is None:
        return
    fits = len(status.rows) + status.room
    if status.count > fits:
        raise ClusterError(f"not enough cores or GPUs: {status.count} replicas asked for, {fits} fit; add nodes")


def _find() -> Any | None:  # noqa: ANN401 (Ray's handles have no type)
    try:
        return ray.get_actor(NAME)
    except ValueError:
        return None


def _running() -> Any:  # noqa: ANN401 (as above)
    if (controller := _find()) is None:
        raise ClusterError("nothing is up on this cluster: run `up` first")
    return controller


def _ask(owed: Any) -> Any:  # noqa: ANN401 (as above)
    try:
        return ray.get(owed, timeout=_ANSWER_SECONDS)
    except GetTimeoutError as error:
        raise ClusterError(f"the controller has not answered for {_ANSWER_SECONDS:g} s: is the Ray head up?") from error


def _wait(controller: Any, done: Callable[[Status], bool], seconds: float) -> None:  # noqa: ANN401 (as above)
    end = time.monotonic() + seconds
    while not done(_patiently(controller, end)):
        if time.monotonic() > end:
            raise ClusterError(f"not done after {seconds:g} s, and goes on: see `status`")
        time.sleep(_POLL_SECONDS)


def _patiently(controller: Any, end: float) -> Status:  # noqa: ANN401 (as above)
    """The status; the controller may be starting elsewhere."""
    while True:
        try:
            return _ask(controller.status.remote())
        except RayTaskError:
            raise
        except RayActorError:
            if time.monotonic() > end:
                raise
            time.sleep(_POLL_SECONDS)


def _ready(status: Status) -> int:
    return sum(row.phase == Phase.READY and row.revision == status.revision for row in status.rows)


def _table(status: Status) -> str:
    head = ("REPLICA", "ADDRESS", "METRICS", "REVISION", "STATE", "ROWS", "AGE", "")
    lines: list[tuple[str, ...]] = [head]
    for row in status.rows:
        note = "" if row.phase == Phase.READY else row.reason
        age = f"{row.age_seconds:.0f}s"
        lines.append((row.name, row.address, row.metrics_address, row.revision, row.phase, f"{row.rows:g}", age, note))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    trial = f", {status.trial} on trial" if status.trial else ""
    refused = f", refused: {status.refused}" if status.refused else ""
    refused += f", failed: {status.problem}" if status.problem else ""
    refused += f", endpoints not written: {status.unpublished}" if status.unpublished else ""
    summary = f"{_ready(status)} of {status.count} ready, revision {status.revision}{trial}{refused}"
    return "\n".join([*text, f"{summary}; {status.published} published, room for {status.room or 0} more"])


if __name__ == "__main__":
    sys.exit(main())
