"""Metrics page: the Prometheus exposition of a registry, of which only what has changed is written again."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from typing import TypeAlias, cast

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

# Half a millisecond of text; without a length, a pause would end before another thread has the interpreter.
_SAMPLES_AT_A_TIME = 32
_PAUSE_SECONDS = 0.00005
# As many as there are kinds of readers: Prometheus asks for OpenMetrics, a probe for plain text.
_FORMATS = 2
_Encode: TypeAlias = Callable[[CollectorRegistry], bytes]
_Written: TypeAlias = dict[str, tuple[Metric, bytes]]


class MetricsPage:
    """Text of a registry. The library takes 15 µs for a sample: the families of idle models are kept as they were.

    It pauses now and then, because otherwise thousands of samples would keep the interpreter from calls.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._written: dict[str, _Written] = {}
        """By content type, the one used last at the end. Few, because it repeats a version that the caller chose."""

    def write(self, accept: str) -> tuple[str, bytes]:
        """Content type and text for an Accept header; one call at a time."""
        encode, content_type = _encoder(accept)
        end = _encode(encode, ())
        with self._lock:
            before = self._written.pop(content_type, {})
            written = {family.name: _write(family, encode, before) for family in self._registry.collect()}
            self._written[content_type] = written
            if len(self._written) > _FORMATS:
                del self._written[next(iter(self._written))]
            texts = [text.removesuffix(end) for _, text in written.values()]
        return content_type, b"".join([*texts, end])


class _Families:
    """What an encoder takes for a registry."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families


def _write(family: Metric, encode: _Encode, written: _Written) -> tuple[Metric, bytes]:
    time.sleep(_PAUSE_SECONDS)
    before = written.get(family.name)
    if before is not None and before[0] == family:
        return before
    paced = copy(family)
    paced.samples = cast("list[Sample]", _paced(family.samples))
    return family, _encode(encode, [paced])


def _encode(encode: _Encode, families: Sequence[Metric]) -> bytes:
    return encode(cast("CollectorRegistry", _Families(families)))


def _paced(samples: Iterable[Sample]) -> Iterator[Sample]:
    for number, sample in enumerate(samples, 1):
        if number % _SAMPLES_AT_A_TIME == 0:
            time.sleep(_PAUSE_SECONDS)
        yield sample


def _encoder(accept: str) -> tuple[_Encode, str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):
        # The library compares version numbers without checking that they are numbers.
        return choose_encoder("")
