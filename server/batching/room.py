"""Room for images: the pixels of one model's requests of many sizes that wait or run, in all and of each caller."""

import threading

from server.errors import InvalidArgumentError, OverloadedError

# When memory is free again depends on how large the requests are that hold it.
_RETRY_SECONDS = 1.0


class Room:
    """Bounds what requests hold: only a few parts of a large one are queued, so that rows in the queue do not bound it.

    When more than half is taken, a caller may have no more than is still free, as in `admission.py`; when nothing is
    taken, a request of any size gets in.
    """

    def __init__(self, limit_pixels: int, request_pixels: int, *, shared: bool) -> None:
        self.taken = 0
        self._limit = limit_pixels
        self._request_pixels = request_pixels
        self._shared = shared
        self._callers: dict[str, int] = {}
        self._lock = threading.Lock()

    def take(self, caller: str, pixels: int, field: str) -> None:
        """Take room for a request, which gives it back; `field` has its images or latents.

        Raises:
            InvalidArgumentError: more than a request may have.
            OverloadedError: there is not enough for all callers, or for this one.
        """
        if pixels > self._request_pixels:
            raise InvalidArgumentError(
                field,
                f"expected at most {self._request_pixels} pixels in the images of a request, padded as the graph "
                f"needs, got {pixels}: send several requests",
            )
        with self._lock:
            held, taken = self._callers.get(caller, 0), self.taken + pixels
            free = self._limit - taken
            if self.taken and (free < 0 or (self._shared and 2 * taken > self._limit and held + pixels > free)):
                raise OverloadedError(
                    f"images of {self.taken} pixels wait or run for this model, {held} of them of this caller, and "
                    f"the limit of {self._limit} leaves no room for {pixels} more: try again later",
                    _RETRY_SECONDS,
                )
            self._callers[caller] = held + pixels
            self.taken = taken

    def give(self, caller: str, pixels: int) -> None:
        """Give back what a request has taken."""
        with self._lock:
            self.taken -= pixels
            self._callers[caller] -= pixels
            if not self._callers[caller]:
                del self._callers[caller]
