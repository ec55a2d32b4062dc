"""The commands of docs/operations.md against a server in trouble and a real Prometheus: each has something to say."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
import yaml
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc

from examples.local_server import running
from tests.deploy.conftest import DEPLOY, component
from tests.deploy.faults import write_fragile_denoiser
from tests.deploy.monitoring import prometheus
from tests.server.conftest import GOLDEN, copy_version, images, pixels
from tests.server.free_models import write_detector

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
SETTINGS = ("--poll-seconds", "0.5", "--log-format", "json", "--max-queue-rows", "8", "--max-request-rows", "8")
WAIT_SECONDS = 60


def trouble(address: str) -> None:
    """Requests that fail in the graph, too many requests, and requests unlike the training images."""
    with grpc.insecure_channel(address) as channel:
        stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
        white = images(np.ones((1, 32, 32, 1), np.float32))
        batch = images(pixels(8))
        calls = [
            *(stub.Denoise.future(pb.DenoiseRequest(model_name="fragile", images=white)) for _ in range(2)),
            *(stub.Encode.future(pb.EncodeRequest(model_name="vae", images=batch)) for _ in range(50)),
            stub.Detect.future(pb.DetectRequest(model_name="detector", images=white)),
            *(stub.Reconstruct.future(pb.ReconstructRequest(model_name="vae", images=batch)) for _ in range(5)),
        ]
        for call in calls:
            with suppress(grpc.RpcError):
                call.result(timeout=30)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the page's variables are; there is trouble while it lasts."""
    component("prometheus")
    component("promtool")
    folder = tmp_path_factory.mktemp("operations")
    repository = folder / "models"
    shutil.copytree(GOLDEN, repository, ignore=shutil.ignore_patterns("*.py"))
    write_fragile_denoiser(repository)
    write_detector(repository)
    with running(repository, folder / "server.log", *SETTINGS) as server:
        with (copy_version(repository, "fc-ae", 2) / "encode.onnx").open("ab") as file:
            file.write(b"!")
        with prometheus(folder, [{"targets": [server.metrics_address]}]) as watcher:
            yield {
                **os.environ,
                "METRICS": f"http://{server.metrics_address}",
                "PROMETHEUS": watcher.url,
                "LOG": str(folder / "server.log"),
                "GRPC": server.address,
            }


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_has_something_to_say(environment: dict[str, str], command: str) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while True:
        done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0 and not done.stderr and done.stdout.strip():
            return
        assert time.monotonic() < end, done
        # Rates want several scrapes with trouble between them.
        trouble(environment["GRPC"])
        time.sleep(0.5)


def test_every_alert_stands_on_the_first_page_and_has_commands() -> None:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    first, *sections = re.split(r"^### ", PAGE.split("## Alerts\n", 1)[1], flags=re.MULTILINE)
    told = {section.partition("\n")[0]: section for section in sections}
    for rule in (rule for group in groups for rule in group["rules"]):
        name = rule["alert"]
        assert f"| [{name.removeprefix('Autoencoder')}](#{name.lower()}) |" in first
        assert "```sh" in told[name] or "as above" in told[name]
