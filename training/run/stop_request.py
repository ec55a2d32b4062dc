"""A request to stop, by Ctrl-C or SIGTERM: training saves first, everything else ends at once."""

from collections.abc import Generator
from contextlib import contextmanager
from threading import Event

from training.errors import StoppedError


class StopRequest(Event):
    """Set to stop a run between two steps. It is only read while steps run: at other times, interrupt."""

    def __init__(self) -> None:
        super().__init__()
        self.noticed = False
        """Whether steps are running, the next of which will end the run."""

    @contextmanager
    def noticed_between_steps(self) -> Generator[None]:
        """Steps run inside.

        Raises:
            StoppedError: the request came when the last step had been taken.
        """
        self.noticed = True
        try:
            yield
        finally:
            self.noticed = False
        if super().is_set():
            raise StoppedError("stopped after the last step, saved; go on with --resume")
