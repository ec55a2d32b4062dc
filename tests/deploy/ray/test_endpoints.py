"""The file that Envoy watches is whole at every moment."""

import json
import threading
from pathlib import Path

from deploy.ray.endpoints import FILE, assignment, publish


def test_an_assignment_names_each_replica_once() -> None:
    read = json.loads(assignment(["10.0.0.2:8001", "[fd00::1]:9000", "10.0.0.2:8001"]))
    (resource,) = read["resources"]
    assert resource["@type"].endswith("ClusterLoadAssignment")
    assert resource["cluster_name"] == "hourglass"
    sockets = [each["endpoint"]["address"]["socket_address"] for each in resource["endpoints"][0]["lb_endpoints"]]
    assert sockets == [{"address": "10.0.0.2", "port_value": 8001}, {"address": "fd00::1", "port_value": 9000}]


def test_only_a_change_replaces_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    assert publish(folder, "one")
    inode = (folder / FILE).stat().st_ino
    assert not publish(folder, "one")
    assert (folder / FILE).stat().st_ino == inode
    assert publish(folder, "two")
    assert [each.name for each in folder.iterdir()] == [FILE]
    assert (folder / FILE).stat().st_mode & 0o777 == 0o644


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    texts = [assignment(f"10.0.{high}.{low}:80" for low in range(200)) for high in range(2)]
    publish(tmp_path, texts[0])
    over = threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not over.is_set():
            seen.add((tmp_path / FILE).read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(300):
        publish(tmp_path, texts[turn % 2])
    over.set()
    reader.join()
    assert seen <= set(texts)
