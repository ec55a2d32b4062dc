"""A cable with a delay: packets between two TAP devices, each held back. `relay.py NAMESPACE SWITCH PORT DELAY_MS`."""

import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_CLONE_NEWNET = 0x40000000
_FRAME_BYTES = 65536


def _tap(namespace: str, name: str) -> int:
    """A TAP device in a network namespace."""
    with open(f"/run/netns/{namespace}") as space:  # noqa: PTH123 (its descriptor is what counts)
        # os.setns is of Python 3.12.
        if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), namespace)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return device


def _relay(one: int, other: int, delay_seconds: float) -> None:
    waiting: deque[tuple[float, int, bytes]] = deque()
    targets = {one: other, other: one}
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for source in select.select([one, other], [], [], timeout)[0]:
            waiting.append((time.monotonic() + delay_seconds, targets[source], os.read(source, _FRAME_BYTES)))
        while waiting and waiting[0][0] <= time.monotonic():
            _, target, frame = waiting.popleft()
            try:
                os.write(target, frame)
            except OSError:
                # The device is down: the packet is lost, as on a cable that was pulled.
                continue


if __name__ == "__main__":
    namespace, switch, port, delay_ms = sys.argv[1:]
    _relay(_tap(namespace, "eth0"), _tap(switch, port), float(delay_ms) / 1000)
