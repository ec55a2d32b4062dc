"""Server reflection, so that generic clients need no .proto files."""

from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from server.services import autoencoder, open_inference


def add_reflection(server: aio.Server) -> None:
    """Answer reflection for every service."""
    health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    names = (autoencoder.SERVICE, open_inference.SERVICE, health, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
