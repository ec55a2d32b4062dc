"""The text of a registry, of which only what has changed is written again."""

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


def test_what_has_not_changed_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    still, moving = (Gauge(name, "One.", registry=registry) for name in ("still", "moving"))
    still.set(1)
    written: list[str] = []
    encode, content_type = choose_encoder("")

    def noting(families: CollectorRegistry) -> bytes:
        written.extend(family.name for family in families.collect())
        return encode(families)

    monkeypatch.setattr("server.metrics.page.choose_encoder", lambda _: (noting, content_type))
    page = MetricsPage(registry)
    for value in (1, 2):
        moving.set(value)
        page.write("")
    assert written == ["still", "moving", "moving"]
