"""FFDNet's published weights from a plain module to answers over gRPC, at the PSNR of its paper.

PHOTOS_DIR is the folder that `bench/studies/foreign_denoiser.py` describes; without it this file is not collected.
"""

import logging
import os
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc
from autoencoder.v1.model_pb2 import DATA_TYPE_FLOAT32

from bench.studies import foreign_denoiser
from bench.studies.foreign_denoiser import NETWORKS, Floats, Foreign
from examples.local_server import LocalServer, running

MESSAGE_BYTES = 64 * 2**20
TOLERANCE_DB = 0.02
LOG = logging.getLogger(__name__)


def over_grpc(network: Foreign, server: LocalServer) -> foreign_denoiser.Denoise:
    """Denoise by a server, images of their own size in float32, as the noise left them."""
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]
    stub = autoencoder_pb2_grpc.AutoencoderServiceStub(grpc.insecure_channel(server.address, options))

    def denoise(image: Floats, level: float) -> Floats:
        tensor = pb.Tensor(shape=[1, *image.shape], data_type=DATA_TYPE_FLOAT32, data=image.tobytes())
        answer = stub.Denoise(
            pb.DenoiseRequest(
                model_name=network.name,
                images=pb.Images(tensor=tensor),
                image_format=pb.IMAGE_FORMAT_FLOAT32,
                noise_levels=[level],
            )
        )
        found = answer.images.tensor
        return np.frombuffer(found.data, np.float32).reshape(image.shape)

    return denoise


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_answers_over_grpc_have_the_published_psnr(network: Foreign, tmp_path: Path) -> None:
    photographs = Path(os.environ["PHOTOS_DIR"])
    assert foreign_denoiser.export_network(network, photographs, tmp_path) == 0
    with running(tmp_path, tmp_path / "server.log") as server:
        for level, published in network.psnr.items():
            found = foreign_denoiser.mean_psnr(network, photographs, level, over_grpc(network, server))
            LOG.info("%s at %d: %.3f dB, %.2f published", network.name, level, found, published)
            assert found == pytest.approx(published, abs=TOLERANCE_DB)
