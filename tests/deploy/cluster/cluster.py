"""A cluster as deploy/ray makes it, on namespaces as machines: three of Ray, one of Envoy, one of callers."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.deploy.cluster.machines import ROOT, Machine, Network
from tests.deploy.cluster.measure import Callers
from tests.deploy.envoy import proxy

RAY_PORT = 6379
ENVOY_PORT = 8443
LINK_DELAY_MS = 1.0
_BIN = Path(sys.executable).parent
# A replica takes half of it: two fit on a node, so that a new one starts before an old one stops.
_CORES = 1
_SETTINGS = """
[ray]
address = "{address}"
endpoints = "{endpoints}"
envoys = {envoys}
[replicas]
cores = 0.5
start_seconds = 60
[models]
url = "{models}"
cache = "{cache}"
[scaling]
least = {replicas}
most = {replicas}
down_seconds = 5
rows = 4
up_seconds = 1
[server]
transport = "native"
lame_duck_seconds = 3
io_threads = 1
poll_seconds = 0
"""


class Cluster:
    """Three Ray nodes, Envoy, and a place for callers. The third node's cable delays each packet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Names of sockets are short: those that Ray makes within a test's own folder would not fit.
        self._sockets = Path(tempfile.mkdtemp(prefix="hg-"))
        self.network = Network([None, None, LINK_DELAY_MS, None, None])
        *self.nodes, self.proxy, self.outside = self.network.machines
        self.head = self.nodes[0]
        self.settings = folder / "cluster.toml"
        self.address = f"{self.proxy.address}:{ENVOY_PORT}"
        self.certificate = folder / "envoy" / "tls" / "tls.crt"

    def open(self, nodes: int) -> None:
        """Start Ray on so many nodes."""
        self.network.open()
        self.nodes = self.nodes[:nodes]
        self.start_ray(self.head)
        with ThreadPoolExecutor() as threads:
            list(threads.map(self.start_ray, self.nodes[1:]))

    def up(self) -> None:
        """Start the replicas and Envoy, and wait until they serve."""
        self.ours("up")
        self._start_envoy()

    def write_settings(self, models: Path | str, replicas: int, envoys: Sequence[Machine] = ()) -> None:
        """The file that the commands read; `envoys` are the nodes that write endpoints, by default the controller's."""
        publishers = json.dumps([each.address for each in envoys])
        values = {"envoys": publishers, "models": models, "replicas": replicas, "cache": self.folder / "cache"}
        endpoints = self.folder / "envoy" / "endpoints"
        address = f"{self.head.address}:{RAY_PORT}"
        self.settings.write_text(_SETTINGS.format(address=address, endpoints=endpoints, **values))

    def start_ray(self, node: Machine) -> None:
        """Ray on one machine, with deploy/ray/ray.env."""
        place = ["--head", f"--port={RAY_PORT}", "--include-dashboard=false"]
        if node is not self.head:
            place = [f"--address={self.head.address}:{RAY_PORT}"]
        limits = [f"--num-cpus={_CORES}", "--object-store-memory=80000000", "--include-log-monitor=false"]
        temporary = f"--temp-dir={self._sockets / node.name}"
        command = ["start", *place, f"--node-ip-address={node.address}", *limits, "--disable-usage-stats", temporary]
        done = node.run(str(_BIN / "ray"), *command, environment=self.environment)
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def environment(self) -> Mapping[str, str]:
        """What every program on a node gets."""
        lines = (ROOT / "deploy" / "ray" / "ray.env").read_text().splitlines()
        tuned = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
        tuned["RAY_gcs_storage_path"] = str(self.folder / "gcs")
        (self.folder / "gcs").mkdir(exist_ok=True)
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-token-of-thirty-two-characters!"}
        return {**os.environ, **tuned, **token}

    def ours(self, *arguments: str, node: Machine | None = None, fails: bool = False) -> str:
        """`python -m deploy.ray …` on a node; what it printed."""
        command = [sys.executable, "-m", "deploy.ray", *arguments, "--settings", str(self.settings)]
        done = (node or self.nodes[1]).run(*command, environment=self.environment, seconds=300)
        assert (done.returncode != 0) == fails, (arguments, done.stdout, done.stderr[-3000:])
        return done.stderr if fails else done.stdout

    def endpoints(self) -> list[str]:
        """HOST:PORT of the replicas that Envoy knows."""
        read = json.loads((self.folder / "envoy" / "endpoints" / "endpoints.json").read_text())
        sockets = [
            each["endpoint"]["address"]["socket_address"]
            for each in read["resources"][0]["endpoints"][0]["lb_endpoints"]
        ]
        return [f"{each['address']}:{each['port_value']}" for each in sockets]

    def servers(self, node: Machine) -> list[int]:
        """Process ids of the replicas on a node."""
        return node.processes("-m server")

    def load(self, kind: str, callers: int) -> Callers:
        """Start callers."""
        results = self.folder / f"load-{kind}.jsonl"
        results.unlink(missing_ok=True)
        program = Path(__file__).with_name("load.py")
        command = [sys.executable, str(program), kind, self.address, str(callers), str(results), str(self.certificate)]
        process = self.outside.start(*command, log=self.folder / f"load-{kind}.log")
        return Callers(process, lambda: self.outside.processes(str(program), kind), results)

    def close(self) -> None:
        """End all; nothing stays but the folder."""
        self.network.close()
        shutil.rmtree(self._sockets)

    def _start_envoy(self) -> None:
        folder = self.folder / "envoy"
        for name in ("envoy.yaml", "secrets.yaml"):
            shutil.copy(ROOT / "deploy" / "envoy" / name, folder)
        (folder / "tls").mkdir(exist_ok=True)
        subject = ["-subj", "/CN=envoy", "-addext", f"subjectAltName=IP:{self.proxy.address}"]
        files = ["-keyout", str(folder / "tls" / "tls.key"), "-out", str(self.certificate)]
        make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        subprocess.run([*make, *files, *subject], check=True, capture_output=True)
        program = f"cd {folder} && exec {proxy.program()} -c envoy.yaml --disable-hot-restart --concurrency 1"
        self.proxy.start("bash", "-c", program, log=self.folder / "envoy.log")
