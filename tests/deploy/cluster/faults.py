"""What may happen to a cluster; each says how many seconds passed until as many replicas served as before."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.deploy.cluster.cluster import Cluster
from tests.deploy.cluster.machines import Machine, wait_for

RESTART_SECONDS = 1.0
"""Until a supervisor such as systemd starts Ray again."""
PARTITION_SECONDS = 12.0
LOSS = 0.01
LOSS_SECONDS = 8.0
_LIMIT_SECONDS = 60.0
_STOP_SECONDS = 15.0
"""For the lame-duck time, open calls and the end of the process."""
_FLOOD_CALLERS = 16


class Faults:
    """Faults of one cluster whose replicas should be `count`."""

    def __init__(self, cluster: Cluster, count: int) -> None:
        self.cluster = cluster
        self.count = count

    def replica_killed(self) -> float:
        """Kill -9 of one server."""
        pid = next(pids[0] for node in self.cluster.nodes if (pids := self.cluster.servers(node)))
        return self._replaced(lambda: os.kill(pid, signal.SIGKILL), lambda known: len(known - self._before) >= 1)

    def actor_killed(self) -> float:
        """Kill -9 of the process that owns one server: the server must not stay behind."""
        cluster = self.cluster
        node, owner = next((node, pids[0]) for node in cluster.nodes if (pids := node.processes("ray::Replica")))
        before = set(cluster.servers(node))
        seconds = self._replaced(lambda: os.kill(owner, signal.SIGKILL), lambda known: len(known - self._before) >= 1)
        wait_for(lambda: before - set(cluster.servers(node)), "the end of the server that lost its owner")
        return seconds

    def agent_killed(self) -> float:
        """Kill -9 of Ray's agent (raylet) on a node: its replicas end, others take over."""
        node = self._busy()
        before = self.cluster.servers(node)
        raylets = node.processes("raylet/raylet")
        seconds = self._moved(node, lambda: [os.kill(each, signal.SIGKILL) for each in raylets])
        wait_for(lambda: not set(before) & set(self.cluster.servers(node)), "the end of the node's servers")
        self.restart(node)
        return seconds

    def node_killed(self) -> float:
        """Kill -9 of everything on a node."""
        node = self._busy()
        seconds = self._moved(node, node.die)
        self.restart(node)
        return seconds

    def head_killed(self) -> float:
        """Kill -9 of everything on the machine of the Ray head, which a supervisor starts again."""
        head = self.cluster.head

        def kill() -> None:
            head.die()
            time.sleep(RESTART_SECONDS)
            self.restart(head)

        return self._moved(head, kill)

    def partition(self) -> float:
        """The cable of a node is pulled for a while: that of the controller, unless it is on the head."""
        node = next((each for each in self.cluster.nodes[1:] if each.processes("ray::Controller")), self._busy())
        start = time.monotonic()
        seconds = self._moved(node, lambda: node.cut(cut=True))
        time.sleep(max(0.0, PARTITION_SECONDS - (time.monotonic() - start)))
        node.cut(cut=False)
        # Ray has given the node up: its agent ends when it hears of it, and so do its replicas.
        wait_for(lambda: not node.processes("raylet/raylet"), "the end of the agent that was cut off")
        wait_for(lambda: not self.cluster.servers(node), "the end of its servers")
        self.restart(node)
        return seconds

    def loss(self) -> float:
        """One packet in a hundred that a node receives is lost."""
        node = self.cluster.nodes[1]
        node.lose(LOSS)
        time.sleep(LOSS_SECONDS)
        node.lose(0)
        return 0.0

    def upgrade(self, models: Path) -> float:
        """Roll to other models."""
        start = time.monotonic()
        self.cluster.ours("upgrade", "--models", str(models))
        return time.monotonic() - start

    def bad_version(self, models: Path) -> float:
        """An upgrade to a version whose files are damaged: refused, and the old one serves on."""
        start, before = time.monotonic(), set(self.cluster.endpoints())
        said = self.cluster.ours("upgrade", "--models", str(models), fails=True)
        assert "is refused" in said, said
        assert len(before & set(self.cluster.endpoints())) == self.count, "nobody was replaced"
        return time.monotonic() - start

    def restart(self, node: Machine) -> None:
        """What a supervisor does: start the machine if it is off, and Ray on it."""
        for pid in node.processes("ray"):
            os.kill(pid, signal.SIGKILL)
        if not node.is_on():
            node.boot()
        self.cluster.start_ray(node)

    def scaled(self) -> float:
        """From one replica to three while rows wait, and back; seconds until there were three."""
        self.cluster.ours("scale", "1", "3")
        wait_for(lambda: len(self.cluster.endpoints()) == 1, "one replica")
        flood = self.cluster.load("flood", _FLOOD_CALLERS)
        seconds = wait_for(lambda: len(self.cluster.endpoints()) == self.count, "three replicas", _LIMIT_SECONDS)
        flood.stop()
        wait_for(lambda: len(self.cluster.endpoints()) == 1, "one replica again", _LIMIT_SECONDS)
        self.cluster.ours("scale", str(self.count))
        return seconds

    def _busy(self) -> Machine:
        """The node, other than that of the head, with most replicas."""
        return max(self.cluster.nodes[1:], key=lambda node: len(self.cluster.servers(node)))

    def _replaced(self, fault: Callable[[], object], done: Callable[[set[str]], bool]) -> float:
        """Seconds from a fault until the endpoints are as many as before, and `done`."""
        wait_for(lambda: self._servers() == self.count, "the end of servers that were stopped", _STOP_SECONDS)
        self._before = set(self.cluster.endpoints())
        assert len(self._before) == self.count, self._before
        start = time.monotonic()
        fault()
        wait_for(
            lambda: len(known := set(self.cluster.endpoints())) == self.count and done(known),
            "replicas as many as before",
            _LIMIT_SECONDS,
        )
        return time.monotonic() - start

    def _servers(self) -> int:
        return sum(len(self.cluster.servers(node)) for node in self.cluster.nodes)

    def _moved(self, node: Machine, fault: Callable[[], object]) -> float:
        """The same for a fault of a node: its replicas are replaced by others, if it had any."""
        before = {each for each in self.cluster.endpoints() if each.startswith(f"{node.address}:")}
        return self._replaced(fault, lambda known: not before & known)
