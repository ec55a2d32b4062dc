"""Server reflection, so that generic clients need no .proto files."""

from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from server.services.autoencoder import SERVICE


def add_reflection(server: aio.Server) -> None:
    """Answer reflection for every service."""
    names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
