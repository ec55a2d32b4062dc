"""Endpoint discovery (EDS): the file from which Envoy learns where replicas are."""

import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

FILE = "endpoints.json"
_CLUSTER = "hourglass"
_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def assignment(addresses: Iterable[str]) -> str:
    """A DiscoveryResponse for replicas at HOST:PORT, in a stable order."""
    endpoints = [{"endpoint": {"address": {"socket_address": _socket(each)}}} for each in sorted(set(addresses))]
    resource = {"@type": _TYPE, "cluster_name": _CLUSTER, "endpoints": [{"lb_endpoints": endpoints}]}
    return json.dumps({"resources": [resource]}, indent=1)


def publish(folder: Path, text: str) -> bool:
    """Replace the file at once, so that Envoy never reads half of it; False if it holds the text already."""
    target = folder / FILE
    with suppress(FileNotFoundError):
        if target.read_text() == text:
            return False
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".endpoints-", dir=folder)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        # Envoy may run as another user; mkstemp lets only its owner read.
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return True


def _socket(address: str) -> dict[str, object]:
    host, _, port = address.rpartition(":")
    return {"address": host.strip("[]"), "port_value": int(port)}
