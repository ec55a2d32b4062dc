"""docs/metrics.md against a server that has done a little of everything."""

import re
import shutil
import sys
import urllib.request
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from prometheus_client.parser import text_string_to_metric_families

from tests.server.conftest import GOLDEN, Served, images, pixels, serving
from tests.server.free_models import write_detector

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
# A module like NVIDIA's, for machines without a card.
CARD = Path(__file__).parents[1] / "deploy" / "card"


@pytest.fixture
def _card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(CARD)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.delitem(sys.modules, "pynvml")


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels by name."""
    rows = re.findall(r"^\| `(autoencoder_\w+)` \| (\w+) \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    return {name: (kind, frozenset(re.findall(r"\w+", labels))) for name, kind, labels in rows}


def exercise(served: Served) -> None:
    served.stub.Encode(pb.EncodeRequest(model_name="vae", images=images(pixels(2))))
    served.stub.Reconstruct(pb.ReconstructRequest(model_name="vae", images=images(pixels(2))))
    served.stub.Detect(pb.DetectRequest(model_name="detector", images=images(np.zeros((1, 40, 40, 1), np.float32))))
    request = pb.EncodeRequest(model_name="vae", images=images(pixels(4)))
    while not served.app.metrics.dropped_rows:
        for call in [served.stub.Encode.future(request) for _ in range(50)]:
            call.exception()


def exposed(served: Served) -> dict[str, tuple[str, frozenset[str]]]:
    """The same as Prometheus sees it."""
    with urllib.request.urlopen(f"http://{served.metrics_address}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for family in families:
        for sample in family.samples:
            labels[family.name] |= set(sample.labels) - {"le"}
    return {
        family.name + "_total" * (family.type == "counter"): (family.type, frozenset(labels[family.name]))
        for family in families
        if family.name.startswith("autoencoder_") and not family.name.endswith("_created")
    }


@pytest.mark.usefixtures("_card")
def test_the_page_lists_every_metric_with_type_and_labels(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "vae", tmp_path / "vae")
    write_detector(tmp_path)
    with serving(tmp_path, max_queue_rows=4, max_request_rows=4, poll_seconds=0) as served:
        exercise(served)
        found = exposed(served)
    assert found == documented()
