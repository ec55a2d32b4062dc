"""Ray actors: a replica that owns a server's process, and a publisher beside each Envoy."""

import json
from pathlib import Path

import ray

from deploy.ray import endpoints
from deploy.ray.decision import Phase
from deploy.ray.models import repository
from deploy.ray.process import Probe, ServerProcess
from deploy.ray.settings import ClusterError, parse


class Replica:
    """One server on the node where Ray placed this actor; it ends with this actor."""

    def __init__(self, settings: str, revision: str) -> None:
        """Fetch the models and start the server; Ray runs this in the main thread of the actor's process."""
        read = parse(json.loads(settings))
        self._problem = ""
        try:
            # Kept open: refused upgrades bring copies too, and this one is still served then.
            folder, self._hold = repository(read.models.url, Path(read.models.cache), revision)
        except ClusterError as error:
            self._problem = str(error)
            return
        host = ray.util.get_node_ip_address()
        ports = (read.replicas.port, read.replicas.metrics_port)
        self._process = ServerProcess(folder, host, ports, read.server)
        self._process.start()

    def probe(self) -> Probe:
        """State of the server."""
        return Probe(Phase.FAILED, self._problem) if self._problem else self._process.probe()

    def stop(self) -> None:
        """Begin an orderly stop; `probe` says when it has ended."""
        if not self._problem:
            self._process.stop()


class Publisher:
    """Writes endpoints on the disk of its node."""

    def publish(self, folder: str, text: str) -> bool:
        """Replace the file if it differs."""
        return endpoints.publish(Path(folder), text)
