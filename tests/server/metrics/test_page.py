"""The text of a registry, of which only what has changed is written again."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, PlatformCollector
from prometheus_client.exposition import choose_encoder

from server.metrics.page import MetricsPage

OPEN_METRICS = "application/openmetrics-text;version=1.0.0"


@pytest.mark.parametrize("accept", ["", OPEN_METRICS])
def test_a_page_is_the_library_s_own_whatever_has_changed(accept: str) -> None:
    registry = CollectorRegistry()
    page, (encode, content_type) = MetricsPage(registry), choose_encoder(accept)
    assert page.write(accept) == (content_type, encode(registry))
    # Gives the same families each time.
    PlatformCollector(registry=registry)
    gauge = Gauge("many", "Of them.", ("number",), registry=registry)
    count = Counter("few", "Of them.", registry=registry)
    for number in range(1000):
        gauge.labels(str(number)).set(number)
    for change in (
        lambda: None,
        count.inc,
        lambda: gauge.labels("7").set(float("nan")),
        lambda: gauge.labels("new").set(1),
        lambda: gauge.remove("3"),
        lambda: registry.unregister(count),
    ):
        change()
        for _ in range(2):
            assert page.write(accept) == (content_type, encode(registry))


def test_each_format_gets_its_own_text() -> None:
    registry = CollectorRegistry()
    Counter("few", "Of them.", registry=registry)
    page = MetricsPage(registry)
    for accept in ("", OPEN_METRICS, ""):
        encode, content_type = choose_encoder(accept)
        assert page.write(accept) == (content_type, encode(registry))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the families that are written."""
    names: list[str] = []

    def choose(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
        encode, content_type = choose_encoder(accept)

        def noting(families: CollectorRegistry) -> bytes:
            names.extend(family.name for family in families.collect())
            return encode(families)

        return noting, content_type

    monkeypatch.setattr("server.metrics.page.choose_encoder", choose)
    return names


def test_what_has_not_changed_is_not_written_again(written: list[str]) -> None:
    registry = CollectorRegistry()
    still, moving = (Gauge(name, "One.", registry=registry) for name in ("still", "moving"))
    still.set(1)
    page = MetricsPage(registry)
    for value in (1, 2):
        moving.set(value)
        page.write("")
    assert written == ["still", "moving", "moving"]


def test_the_texts_of_the_two_formats_used_last_are_kept(written: list[str]) -> None:
    registry = CollectorRegistry()
    Gauge("still", "One.", registry=registry)
    page = MetricsPage(registry)
    other = "application/openmetrics-text;version=2.0.0"
    counts: list[int] = []
    for accept in ("", OPEN_METRICS, "", OPEN_METRICS, other, OPEN_METRICS, ""):
        page.write(accept)
        counts.append(len(written))
    assert counts == [1, 2, 2, 2, 3, 3, 4]
    assert len(page._written) == 2
