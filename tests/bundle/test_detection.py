from typing import Any, cast

import numpy as np
import pytest
from autoencoder.v1.anomaly_maps import scores_of
from scipy.stats import beta

from bundle import npz
from bundle.detection import (
    CONFIDENCE,
    LEAST_IMAGES,
    HeldOutScores,
    calibrate,
    check_detection,
    index_of,
    pack_statistics,
    rate_interval,
    unpack_statistics,
)
from bundle.errors import BundleError

LISTS = ("rates", "thresholds", "map_thresholds", "rate_lower", "rate_upper")


def held_out(count: int, **changes: Any) -> HeldOutScores:
    scores = np.random.default_rng(0).gamma(2, 0.01, count).astype(np.float32)
    given: dict[str, Any] = {"scores": scores, "maxima": 2 * scores, "map_low": 0.25, "size": (24, 32)}
    return HeldOutScores(**given | changes)


def test_thresholds_are_order_statistics_of_held_out_scores() -> None:
    given = held_out(999)
    detection = calibrate(given, "max")
    ordered = np.sort(given.scores)
    # Of 1,000 places that a new score can take, 1, 2, 5, … are above.
    expected = [ordered[999 - above] for above in (1, 2, 5, 10, 20, 50, 100)]
    assert detection.thresholds == [float(each) for each in expected]
    assert detection.map_thresholds == [2 * float(each) for each in expected]
    np.testing.assert_allclose(detection.rates, [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1], rtol=1e-7)
    assert (detection.score, detection.calibrated_on, detection.map_low) == ("max", 999, 0.25)
    assert (detection.calibrated_height, detection.calibrated_width) == (24, 32)


@pytest.mark.parametrize(
    ("count", "lowest", "default"),
    [(9, 0.1, 0.1), (18, 0.1, 0.1), (19, 0.05, 0.05), (99, 0.01, 0.01), (998, 0.002, 0.01), (20_000, 0.0001, 0.01)],
)
def test_rates_go_as_far_as_the_images_allow(count: int, lowest: float, default: float) -> None:
    detection = calibrate(held_out(count), "mean")
    assert detection.rates[0] == np.float32(lowest)
    assert detection.default_rate == np.float32(default)
    assert list(detection.rates) == sorted(detection.rates)
    assert list(detection.thresholds) == sorted(detection.thresholds, reverse=True)
    assert np.float32(detection.default_rate) in np.asarray(detection.rates, np.float32)


def test_too_few_images_tell_no_rate() -> None:
    with pytest.raises(BundleError, match=r"at least 9 held-out normal images .*, got 8: add normal images"):
        calibrate(held_out(LEAST_IMAGES - 1), "max")


@pytest.mark.parametrize(("above", "count"), [(1, 9), (1, 99), (10, 999), (100, 999), (2, 20_000), (2_000, 20_000)])
def test_intervals_are_quantiles_of_the_beta_distribution(above: int, count: int) -> None:
    tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    expected = [cast("Any", beta).ppf(level, above, count + 1 - above) for level in tails]
    np.testing.assert_allclose(rate_interval(above, count), expected, rtol=1e-8)


def test_intervals_hold_the_true_rate_as_often_as_they_say() -> None:
    """Scores are uniform, so that the true rate is the share above the threshold."""
    draws = np.sort(np.random.default_rng(1).random((20_000, 99)), axis=1)
    rates = 1 - draws[:, 99 - 5]
    lower, upper = rate_interval(5, 99)
    outside = np.mean((rates < lower) | (rates > upper))
    assert rates.mean() == pytest.approx(5 / 100, abs=0.001)
    # 20 of 20,000, with a spread of 4.5.
    assert outside == pytest.approx(1 - CONFIDENCE, abs=0.0012)


def test_a_rate_that_is_not_listed_is_the_next_lower_one() -> None:
    detection = calibrate(held_out(99), "max")
    assert [index_of(detection, rate) for rate in (0.01, 0.019, 0.02, 0.5)] == [0, 0, 1, 3]
    assert index_of(detection, 0.0099) is None


def test_maps_are_reduced_to_what_thresholds_are_made_of() -> None:
    maps = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1)
    assert HeldOutScores.of_maps(maps, "max").scores.tolist() == [11, 23]
    given = HeldOutScores.of_maps(maps, "mean")
    assert given.scores.tolist() == [5.5, 17.5]
    assert (given.maxima.tolist(), given.map_low, given.size) == ([11, 23], 11.5, (3, 4))


def test_a_mean_has_the_bits_that_a_server_compares_with_its_threshold() -> None:
    """Added up one by one in float64, the last two numbers are lost, and the mean is just not above 1."""
    rows = np.array([4, 2.0**-22, 2.0**-51, 2.0**-51], np.float32).reshape(1, 4, 1, 1)
    expected = scores_of(rows, "mean")
    assert expected[0] == np.nextafter(np.float32(1), np.float32(2))
    assert HeldOutScores.of_maps(rows, "mean").scores.tobytes() == expected.tobytes()


def test_maps_of_several_sizes_or_none_are_refused() -> None:
    maps = [np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)]
    with pytest.raises(BundleError, match="of one size to calibrate detection on, got 2 x 3, 3 x 2"):
        HeldOutScores.of_maps(maps, "max")
    with pytest.raises(BundleError, match="got none"):
        HeldOutScores.of_maps([], "max")


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"score": "median"}, "a score that is max or mean, got 'median'"),
    ({"rates": [0.1]}, r"as many thresholds and interval ends as rates, got \[1, 4, 4, 4, 4\]"),
    ({name: [] for name in LISTS}, "as many thresholds"),
    ({"rates": [0.1, 0.05, 0.02, 0.01]}, "rates between 0 and 1, ascending"),
    ({"rates": [0.0, 0.02, 0.05, 0.1]}, "rates between 0 and 1"),
    ({"rates": [float("nan")] * 4}, "rates between 0 and 1"),
    ({"thresholds": [float("inf"), 3, 2, 1]}, "finite thresholds"),
    ({"map_low": float("nan")}, "finite thresholds and a finite map_low"),
    ({"thresholds": [1, 2, 3, 4]}, "thresholds that fall as rates rise"),
    ({"map_thresholds": [1, 2, 3, 4]}, "map_thresholds that fall"),
    ({"map_low": 9.0}, "a map_low below all map_thresholds"),
    ({"default_rate": 0.03}, "a default_rate among the rates"),
    ({"rate_upper": [0.001] * 4}, "rates within their intervals"),
    ({"rate_upper": [2.0] * 4}, "rates within their intervals"),
    ({"calibrated_on": -1}, "a count of images"),
    ({"calibrated_width": 31}, "of the model's size, got 24 x 31"),
    ({"calibrated_height": -1}, "of the model's size"),
]


@pytest.mark.parametrize(("changes", "message"), CONTRADICTIONS)
def test_a_calibration_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    detection = calibrate(held_out(99, map_low=0.0), "max")
    check_detection(detection, 24, 32)
    for name, value in changes.items():
        if isinstance(value, list):
            detection.ClearField(cast("Any", name))
            getattr(detection, name).extend(value)
        else:
            setattr(detection, name, value)
    with pytest.raises(BundleError, match=f"detection: expected .*{message}"):
        check_detection(detection, 24, 32)


def test_any_calibrated_size_fits_a_model_of_free_sizes() -> None:
    detection = calibrate(held_out(99, map_low=0.0), "max")
    check_detection(detection, 0, 0)
    with pytest.raises(BundleError, match="of the model's size, got 24 x 32"):
        check_detection(detection, 24, 24)


def test_what_goes_into_a_checkpoint_comes_out() -> None:
    given = held_out(12)
    data = pack_statistics(None, given)
    assert data is not None
    latents, back = unpack_statistics(data)
    assert latents is None
    assert back is not None
    np.testing.assert_array_equal(back.scores, given.scores)
    np.testing.assert_array_equal(back.maxima, given.maxima)
    assert (back.map_low, back.size) == (given.map_low, given.size)
    assert pack_statistics(None, None) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": np.zeros(11, np.float32)}, "of equal length"),
        ({"scores": np.full(12, np.nan, np.float32)}, "finite scores from 0"),
        ({"maxima": np.full(12, -1, np.float32)}, "finite scores from 0"),
        ({"map_low": np.inf}, "finite scores from 0"),
        ({"size": (0, 8)}, "at least one pixel"),
        ({"size": (8, 8, 1)}, "of equal length"),
    ],
)
def test_damaged_scores_are_refused(changes: dict[str, Any], message: str) -> None:
    data = pack_statistics(None, held_out(12, **changes))
    assert data is not None
    with pytest.raises(BundleError, match=message):
        unpack_statistics(data)


def test_missing_arrays_are_refused() -> None:
    with pytest.raises(BundleError, match="detection_scores"):
        unpack_statistics(npz.pack({"detection_scores": np.zeros(3, np.float32)}))
    with pytest.raises(BundleError, match=r"latents\.npz"):
        unpack_statistics(npz.pack({}))
