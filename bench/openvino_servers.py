"""The C++ server on the OpenVINO runtime, `native/openvino_server.cc`, as peers of the comparison."""

import math
from dataclasses import replace
from pathlib import Path

from bench import targets
from bench.servers import Server
from bench.targets import Target, Work

# Latents of an untrained scale differ by a hundredth.
BFLOAT16_TOLERANCE = 0.05
_OPENVINO_ONE = ("--sync", "1", "--fixed", "1", "--streams", "1", "--threads", "1")
_OPENVINO_LARGE = ("--sync", "0", "--fixed", "1", "--streams", "2", "--threads", "2")


def server(program: Path, name: str, note: str, models: Path, *flags: str) -> Server:
    """The C++ server on the OpenVINO runtime, with more flags."""
    graphs = [f"encode={models}/fc-ae/1/encode.onnx", f"denoise={models}/denoiser/1/denoise.onnx"]
    return Server(
        name,
        note,
        [str(program), "{port}", *graphs, *flags],
        lambda work: targets.model_infer(work, work.signature),
        program,
        tolerance=BFLOAT16_TOLERANCE,
    )


def servers(program: Path, models: Path) -> list[Server]:
    """Its two best settings, and the limit of its server without inference."""
    note = (
        "2026.4 in a C++ server of gRPC's callback API, ModelInfer, default precision (bfloat16 where there is one), "
        "no batching; the setting of [a sweep](benchmarks-openvino.md) that is best with one image"
    )

    def encode_one(work: Work) -> Target | None:
        return targets.model_infer(work, work.signature) if work.name == "encode 1 image" else None

    stub = server(
        program, "OpenVINO, stubbed", "the same without inference: what its server costs", models, "--stub", "1"
    )
    return [
        server(program, "OpenVINO", note, models, *_OPENVINO_ONE),
        server(
            program, "OpenVINO, two streams", "the same, best with 64 images and with Denoise", models, *_OPENVINO_LARGE
        ),
        # Its answers are zeros.
        replace(stub, target=encode_one, tolerance=math.inf),
    ]
