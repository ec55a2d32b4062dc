"""Calibrations with anything anywhere, and damaged scores in checkpoints: one sentence, or numbers that hold."""

import json
from typing import Any, cast

import numpy as np
from autoencoder.v1.model_pb2 import Detection
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from bundle.detection import HeldOutScores, calibrate, check_detection, index_of, pack_statistics, unpack_statistics
from bundle.errors import BundleError
from tests.reliability.mutation import FUZZED, damaged

HELD_OUT = HeldOutScores.of_maps(np.random.default_rng(0).random((200, 4, 6), np.float32), "max")
SCORES = pack_statistics(None, HELD_OUT) or b""
WHOLE: dict[str, Any] = json.loads(json_format.MessageToJson(calibrate(HELD_OUT, "max")))
NUMBERS = st.one_of(st.floats(width=32), st.sampled_from([0.0, 1.0, -1.0]))
LISTS = [name for name, value in WHOLE.items() if isinstance(value, list)]


def check_sentence(error: BundleError) -> None:
    assert "expected" in str(error)
    assert len(str(error).splitlines()) == 1


@FUZZED
@given(st.dictionaries(st.sampled_from(LISTS), st.lists(NUMBERS, max_size=6)), NUMBERS, NUMBERS)
def test_lists_with_anything_in_them(lists: dict[str, list[float]], low: float, default: float) -> None:
    detection = Detection()
    json_format.ParseDict(WHOLE, detection)
    for name, values in lists.items():
        field = json_format.MessageToDict(detection, preserving_proto_field_name=True)
        proto_name = next(each for each in field if each.replace("_", "").lower() == name.lower())
        detection.ClearField(cast("Any", proto_name))
        getattr(detection, proto_name).extend(values)
    detection.map_low, detection.default_rate = low, default
    try:
        check_detection(detection, 4, 6)
    except BundleError as error:
        check_sentence(error)
    else:
        default_place = index_of(detection, detection.default_rate)
        assert default_place is not None
        assert np.isfinite(detection.thresholds[default_place])


@FUZZED
@given(damaged(SCORES))
def test_damaged_scores_of_a_checkpoint(data: bytes) -> None:
    try:
        _, found = unpack_statistics(data)
        if found is not None:
            check_detection(calibrate(found, "max"), 0, 0)
    except BundleError as error:
        check_sentence(error)
