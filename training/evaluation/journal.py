"""Journal of the end of a run: what it is computing, so that a resumed run leaves out what exhausted the memory.

A process that is killed for lack of memory cannot write anything; the kernel counts such kills.
"""

import json
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from training.errors import UnavailableError

_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class Journal:
    """The file `.evaluating` in a run's folder, there only while the end of a run is computed.

    Raises:
        OSError: by `computing` and `close`, if the folder cannot be written.
    """

    def __init__(self, workdir: Path) -> None:
        self._path = workdir / ".evaluating"
        self._begun: list[str] = []
        self._left_out = frozenset(self._fatal())

    @contextmanager
    def computing(self, what: str) -> Generator[None]:
        """Note what is computed, until it is done or has failed; it may have parts that are noted too.

        Raises:
            UnavailableError: an earlier process was killed while it computed this.
        """
        if what in self._left_out:
            raise UnavailableError("the kernel ended the run for lack of memory while this was computed")
        self._begun.append(what)
        self._write()
        try:
            yield
        finally:
            self._begun.pop()
            self._write()

    def close(self) -> None:
        """Remove the file: the end has been reached."""
        self._path.unlink(missing_ok=True)

    def _fatal(self) -> list[str]:
        """What an earlier process left out, and what it died in if the kernel has ended a process since."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            begun, left_out, kills = list(found["begun"]), list(found["left_out"]), int(found["kills"])
        except (OSError, ValueError, LookupError, TypeError):
            return []
        return [*left_out, *(begun[-1:] if _memory_kills() != kills else [])]

    def _write(self) -> None:
        state = {"begun": self._begun, "left_out": sorted(self._left_out), "kills": _memory_kills()}
        # Not synced: a process that is killed leaves its files to the kernel.
        self._path.write_text(json.dumps(state), encoding="utf-8")


def _memory_kills() -> int:
    """Processes that the kernel has killed for lack of memory since it started; 0 where it does not say."""
    try:
        found = _KILLS.search(Path("/proc/vmstat").read_text(encoding="ascii"))
    except OSError:
        return 0
    return int(found[1]) if found else 0
