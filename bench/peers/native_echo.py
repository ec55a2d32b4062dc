"""A bare pygrpc-native server that answers every call with the bytes that it received."""

import sys

from pygrpc_native import EVENT_CALL, NativeGrpcFront

MAX_EVENTS = 256


def main() -> None:
    """Serve until terminated."""
    front = NativeGrpcFront(f"127.0.0.1:{sys.argv[1]}", [(sys.argv[2], False)], io_threads=1)
    front.start()
    print(f"listening 127.0.0.1:{front.bound_port}", flush=True)
    while (events := front.recv_batch(MAX_EVENTS)) is not None:
        for kind, token, _, payload, _ in events:
            if kind == EVENT_CALL:
                front.respond(token, payload)


if __name__ == "__main__":
    main()
