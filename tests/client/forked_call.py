"""A call in a forked child, through the client of its parent: `python forked_call.py HOST:PORT` prints its error."""

import os
import sys

from hourglass_client import Client, HourglassError

with Client(sys.argv[1]) as client:
    client.get_model()
    child = os.fork()
    if not child:
        try:
            client.get_model()
        except HourglassError as error:
            os.write(1, f"{type(error).__name__}: {error}\n".encode())
        os._exit(0)
    os.waitpid(child, 0)
