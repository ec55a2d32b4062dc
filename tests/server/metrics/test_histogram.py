"""Histograms count what they are given, each bound in its own bucket."""

import numpy as np

from server.metrics.histogram import Family, Histogram


def test_values_one_by_one_and_together() -> None:
    one, some, all_ = (Histogram((1.0, 2.0)) for _ in range(3))
    values = [0.5, 1.0, 1.5, 2.0, 9.0]
    for value in values:
        one.observe(value)
    some.observe_each(values)
    all_.observe_all(np.array(values))
    for each in (one, some, all_):
        assert each.cumulative() == [("1", 2), ("2", 4), ("+Inf", 5)]
        assert each.total == 14


def test_a_copy_has_what_was_counted_before_it_and_no_empty_series() -> None:
    family = Family("waits", "Of calls.", ("model",), (1.0,))
    family.series["a",].observe(0.5)
    assert family.series["b",].total == 0
    copied = family.copy()
    family.series["a",].observe(3.0)
    family.series["b",].observe(3.0)
    samples = copied.collect().samples
    assert [(each.name, each.labels, each.value) for each in samples] == [
        ("waits_bucket", {"model": "a", "le": "1"}, 1),
        ("waits_bucket", {"model": "a", "le": "+Inf"}, 1),
        ("waits_count", {"model": "a"}, 1),
        ("waits_sum", {"model": "a"}, 0.5),
    ]
