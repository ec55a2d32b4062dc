"""Versions with different outputs, while labels move and versions are replaced: each answer is its version's own."""

import json
import random
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import grpc
import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from inference import open_inference_pb2 as oip
from inference import open_inference_pb2_grpc as oip_grpc
from onnx import helper, numpy_helper

from tests.looping_threads import LoopingThreads
from tests.server.conftest import Served, array, images, metric, serving, write_graph
from tests.server.models.test_manager import eventually

MODEL, LAST = "dimmer", 6
BATCH = np.random.default_rng(0).random((3, 32, 32, 1), np.float32)
LABELS = ("", "stable", "canary")


def factor(version: str | int) -> np.float32:
    """What a version multiplies images by."""
    return np.float32(int(version) / 100)


def publish(repository: Path, version: int) -> None:
    """Put a complete version in place."""
    aside = repository.with_name("aside")
    nodes = [helper.make_node("Mul", ["images", "factor"], ["denoised"])]
    write_graph(aside, MODEL, version, nodes, [numpy_helper.from_array(factor(version), "factor")])
    (repository / MODEL).mkdir(exist_ok=True)
    (aside / MODEL / str(version)).rename(repository / MODEL / str(version))


def point(repository: Path, **labels: int) -> None:
    """Point labels at versions, atomically."""
    new = repository / MODEL / "labels.new"
    new.write_text(json.dumps(labels))
    new.rename(repository / MODEL / "labels.json")


class Callers(LoopingThreads):
    """Threads that ask for any label by both protocols, and keep what was wrong and which versions answered."""

    def __init__(self, served: Served, count: int) -> None:
        self.problems: list[object] = []
        self.seen: Counter[tuple[str, str]] = Counter()
        self.typed, self.infer = served.stub, oip_grpc.GRPCInferenceServiceStub(served.channel)
        super().__init__(partial(self._call, seed) for seed in range(count))

    def wait(self, versions: dict[str, int]) -> None:
        """Until each label has been answered by that version, or something is wrong."""
        eventually(
            lambda: self.problems or all(self.seen[label, str(version)] for label, version in versions.items()),
            seconds=60,
        )

    def _call(self, seed: int) -> None:
        chosen = random.Random(seed)
        while not self.over.is_set():
            label, rows = chosen.choice(LABELS), BATCH[: chosen.choice((1, 3))]
            try:
                version, got = chosen.choice((self._denoise, self._model_infer))(label, rows)
            except grpc.RpcError as error:
                self.problems.append(error)
                return
            self.seen[label, version] += 1
            if not np.array_equal(got, rows * factor(version)):
                self.problems.append((label, version))

    def _denoise(self, label: str, rows: np.ndarray) -> tuple[str, np.ndarray]:
        request = pb.DenoiseRequest(
            model_name=MODEL, model_version=label, images=images(rows), image_format=pb.IMAGE_FORMAT_FLOAT32
        )
        answer = self.typed.Denoise(request, timeout=30)
        return answer.info.model_version, array(answer.images.tensor)

    def _model_infer(self, label: str, rows: np.ndarray) -> tuple[str, np.ndarray]:
        request = oip.ModelInferRequest(model_name=MODEL, model_version=label, raw_input_contents=[rows.tobytes()])
        request.inputs.add(name="images", datatype="FP32", shape=rows.shape)
        answer = self.infer.ModelInfer(request, timeout=30)
        return answer.model_version, np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(rows.shape)


def test_every_answer_is_of_the_version_that_it_names(repository: Path, transport: str) -> None:
    publish(repository, 1)
    publish(repository, 2)
    point(repository, stable=1, canary=2)
    with serving(repository, transport=transport, versions="all", poll_seconds=0.02) as served:
        with Callers(served, 8) as callers:
            callers.wait({"": 2, "stable": 1, "canary": 2})
            for version in range(3, LAST + 1):
                publish(repository, version)
                callers.wait({"": version})
                point(repository, stable=version - 1, canary=version)
                callers.wait({"stable": version - 1, "canary": version})
                shutil.rmtree(repository / MODEL / str(version - 2))
        assert not callers.problems
        # No label pointed anywhere else, ever.
        versions = {label: {int(version) for name, version in callers.seen if name == label} for label in LABELS}
        assert versions == {
            "": set(range(2, LAST + 1)),
            "stable": set(range(1, LAST)),
            "canary": set(range(2, LAST + 1)),
        }
        assert metric(served, "autoencoder_requests_total") == callers.seen.total()
