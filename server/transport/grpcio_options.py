"""gRPC options that bound what an untrusted client can hold, and for how long."""

from server.config import ConnectionConfig

_ALWAYS = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_send_message_length", -1),
    # Only identity: a small compressed message could fill the memory before its size is checked.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    # Drops clients that connect and send nothing.
    ("grpc.server_handshake_timeout_ms", 10_000),
)


def options(limits: ConnectionConfig, max_message_bytes: int, *, lasting: bool) -> list[tuple[str, int]]:
    """Options of a server; `lasting` connections, from a transport in front of it, may be old or idle."""
    found = [
        *_ALWAYS,
        ("grpc.http2.min_ping_interval_without_data_ms", round(limits.min_ping_seconds * 1000)),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.max_concurrent_streams", limits.max_concurrent_streams),
        ("grpc.max_metadata_size", limits.max_header_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_header_bytes),
    ]
    if limits.max_connection_age_seconds and not lasting:
        found.append(("grpc.max_connection_age_ms", round(limits.max_connection_age_seconds * 1000)))
    if limits.max_connection_idle_seconds and not lasting:
        found.append(("grpc.max_connection_idle_ms", round(limits.max_connection_idle_seconds * 1000)))
    return found
