"""A client by server reflection, without .proto files or stubs: `python reflection_calls.py HOST:PORT`."""

import base64
import json
import sys

import grpc
import numpy as np
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

IMAGES = (np.arange(3 * 64, dtype=np.uint32) * 7 % 256).astype(np.uint8).reshape(3, 8, 8, 1)


class Generic:
    """Calls any unary method by name, with JSON in and out."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self._pool = DescriptorPool(self.database)
        self._channel = channel

    def call(self, service: str, method: str, request: dict) -> dict:
        found = self._pool.FindServiceByName(service).FindMethodByName(method)
        message = ParseDict(request, GetMessageClass(found.input_type)())
        answer = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda sent: sent.SerializeToString(),
            response_deserializer=GetMessageClass(found.output_type).FromString,
        )(message, timeout=30)
        return MessageToDict(answer, preserving_proto_field_name=True)


def run(address: str) -> dict:
    data = base64.b64encode(IMAGES.tobytes()).decode()
    tensor = {"data_type": "DATA_TYPE_UINT8", "shape": list(IMAGES.shape), "data": data}
    given = {"name": "images", "datatype": "UINT8", "shape": list(IMAGES.shape)}
    with grpc.insecure_channel(address) as channel:
        generic = Generic(channel)
        encode = generic.call(
            "autoencoder.v1.AutoencoderService", "Encode", {"model_name": "vae", "images": {"tensor": tensor}}
        )
        infer = generic.call(
            "inference.GRPCInferenceService",
            "ModelInfer",
            {"model_name": "vae.encode", "inputs": [given], "raw_input_contents": [data]},
        )
        return {
            "services": sorted(generic.database.get_services()),
            "health": generic.call("grpc.health.v1.Health", "Check", {"service": "vae"})["status"],
            "encode": np.frombuffer(base64.b64decode(encode["latents"]["data"]), np.float32).tolist(),
            "infer": np.frombuffer(base64.b64decode(infer["raw_output_contents"][0]), np.float32).tolist(),
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(sys.argv[1])) + "\n")
