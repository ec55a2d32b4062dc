"""Machines die under load: callers lose nothing. `rounds.py` has the long form."""

import os
from pathlib import Path

from tests.deploy.cluster.cluster import Cluster
from tests.deploy.cluster.faults import Faults
from tests.deploy.cluster.watch import Watch


def test_callers_lose_nothing_when_a_replica_and_the_ray_head_die(
    cluster: Cluster, versions: tuple[Path, Path, Path]
) -> None:
    cluster.open(2)
    cluster.write_settings(versions[0], 2, cluster.nodes[1:2])
    cluster.up()
    servers = [pid for node in cluster.nodes for pid in cluster.servers(node)]
    assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in servers} == {os.nice(0)}
    watch, faults = Watch(cluster, {"client": 2, "raw": 2}), Faults(cluster, 2)
    watch.during("replica killed", faults.replica_killed)
    watch.during("head killed", faults.head_killed)
    watch.stop()
    assert not watch.whole("client").lost
    assert watch.callers["client"].answered() > 100
    assert "it is up already" in cluster.ours("up", fails=True)
    assert "not enough cores or GPUs: 9 replicas asked for, 4 fit" in cluster.ours("scale", "9", fails=True)
    cluster.ours("down")
    assert cluster.endpoints() == []
    assert not [node for node in cluster.nodes if cluster.servers(node)]
    assert "nothing is up on this cluster: run `up` first" in cluster.ours("status", fails=True)
