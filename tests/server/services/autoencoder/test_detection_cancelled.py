"""A search for regions whose caller goes meanwhile, on both transports."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import regions

from tests.server import free_models
from tests.server.conftest import TRANSPORTS, images, metric, serving


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_search_for_a_caller_that_has_gone_ends(
    tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    searching, gone, ended = threading.Event(), threading.Event(), threading.Event()
    blocks: list[int] = []
    find, add = regions.find, regions.RegionFinder._add

    def held(finder: regions.RegionFinder, rows: np.ndarray) -> None:
        blocks.append(len(rows))
        searching.set()
        assert gone.wait(60)
        add(finder, rows)

    def watched(*arguments: Any) -> list[pb.Region]:
        try:
            return find(*arguments)
        finally:
            ended.set()

    monkeypatch.setattr(regions.RegionFinder, "_add", held)
    monkeypatch.setattr(regions, "find", watched)
    free_models.write_detector(tmp_path, "free")
    with serving(tmp_path, transport=transport, poll_seconds=0) as served:
        before = metric(served, "autoencoder_requests_total", method="Detect", code="CANCELLED")
        call = served.stub.Detect.future(
            pb.DetectRequest(model_name="free", images=images(np.ones((1, 600, 400, 1), np.float32)))
        )
        assert searching.wait(60)
        call.cancel()
        while metric(served, "autoencoder_requests_total", method="Detect", code="CANCELLED") == before:
            time.sleep(0.01)
        gone.set()
        assert ended.wait(60)
        assert len(blocks) == 1
