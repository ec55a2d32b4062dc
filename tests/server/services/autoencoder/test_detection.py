"""Detect on real graphs, on both transports: scores, maps, regions, thresholds, and what is refused."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import model_pb2, png, regions
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status as RpcStatus
from inference import open_inference_pb2 as oip
from inference import open_inference_pb2_grpc
from PIL import Image

from tests.server import free_models
from tests.server.conftest import TRANSPORTS, Served, array, images, metric, serving

SIZE = 16
MODELS = ("fixed", "fixed-mean", "free", "free-mean")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        score = "mean" if name.endswith("mean") else "max"
        free_models.write_detector(folder, name, size=SIZE if name.startswith("fixed") else 0, score=score)
    unknown = model_pb2.Detection()
    unknown.CopyFrom(free_models.DETECTION)
    for name in ("calibrated_on", "calibrated_height", "calibrated_width"):
        unknown.ClearField(name)
    free_models.write_detector(folder, "unknown", detection=unknown)
    return folder


@pytest.fixture(scope="module", params=TRANSPORTS)
def served(request: pytest.FixtureRequest, repository: Path) -> Iterator[Served]:
    with serving(repository, transport=request.param, poll_seconds=0) as made:
        yield made


def pictures(count: int, height: int = SIZE, width: int = SIZE, seed: int = 0) -> np.ndarray:
    """(count, H, W, 1), darker from one to the next."""
    noise = np.random.default_rng(seed).random((count, height, width, 1), np.float32)
    return noise * np.linspace(1, 0.3, count, dtype=np.float32)[:, None, None, None]


def detect(served: Served, batch: np.ndarray, name: str = "free", **more: Any) -> pb.DetectResponse:
    return served.stub.Detect(pb.DetectRequest(model_name=name, images=images(batch), **more))


def refusal(served: Served, **request: Any) -> tuple[str, str]:
    """Field and text of an invalid request."""
    with pytest.raises(grpc.RpcError) as error:
        served.stub.Detect(pb.DetectRequest(**request))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = dict(error.value.trailing_metadata())["grpc-status-details-bin"]
    bad = BadRequest()
    assert RpcStatus.FromString(details).details[0].Unpack(bad)
    (violation,) = bad.field_violations
    assert error.value.details() == f"{violation.field}: {violation.description}"
    return violation.field, violation.description


@pytest.mark.parametrize("name", MODELS)
def test_scores_regions_and_the_calibrated_thresholds(served: Served, name: str) -> None:
    batch = pictures(5)
    maps = batch * batch
    answer = detect(served, batch, name)
    means = np.float32(maps.astype(np.float64).mean((1, 2, 3)))
    scores = means if name.endswith("mean") else maps.max((1, 2, 3))
    np.testing.assert_allclose(array(answer.scores), scores, rtol=1e-6 if name == "fixed-mean" else 0)
    assert list(answer.anomalous) == (scores > np.float32(0.5)).tolist()
    assert 0 < sum(answer.anomalous) < 5 or name.endswith("mean")
    assert (answer.threshold, answer.map_threshold) == (0.5, 0.625)
    assert list(answer.regions) == regions.find(maps[..., 0], 0.625)
    assert {region.image for region in answer.regions} == {0, 1}
    assert not answer.HasField("maps")
    assert (answer.info.model_name, answer.info.batch_size > 0) == (name, True)


@pytest.mark.parametrize("name", ["fixed", "free"])
def test_clean_images_have_no_regions(served: Served, name: str) -> None:
    answer = detect(served, np.zeros((2, SIZE, SIZE, 1), np.float32), name)
    assert (list(answer.anomalous), list(answer.regions)) == ([False, False], [])


def test_a_large_image_goes_in_tiles(served: Served) -> None:
    batch = pictures(1, 300, 211)
    maps = batch * batch
    before = metric(served, "autoencoder_tiles_total", model="free", signature="detect")
    answer = detect(served, batch, map_format=pb.IMAGE_FORMAT_FLOAT32)
    assert answer.info.tiles > 1
    assert metric(served, "autoencoder_tiles_total", model="free", signature="detect") == before + answer.info.tiles
    np.testing.assert_array_equal(array(answer.maps.tensor), maps)
    assert list(answer.regions) == regions.find(maps[..., 0], 0.625)
    assert len(answer.regions) == regions.MOST_REGIONS


def test_a_checkerboard_of_a_megapixel_ends_with_a_hundred_regions(served: Served) -> None:
    batch = np.zeros((1, 1000, 1000, 1), np.float32)
    batch[:, ::2, ::2] = 1
    assert len(detect(served, batch).regions) == regions.MOST_REGIONS


@pytest.mark.parametrize("name", ["fixed", "free"])
def test_maps_are_linear_in_every_format(served: Served, name: str) -> None:
    low, level = 0.125, 0.625
    batch = pictures(2)
    batch[0, 0, :4, 0] = np.sqrt([low, level, 0, 1])
    maps = batch * batch
    share = (maps.astype(np.float64) - low) / (level - low) * 128 / 255

    def sent(image_format: int) -> pb.Images:
        return detect(served, batch, name, map_format=image_format).maps

    np.testing.assert_array_equal(array(sent(pb.IMAGE_FORMAT_FLOAT32).tensor), maps)
    drawn = array(sent(pb.IMAGE_FORMAT_UINT8).tensor)
    assert drawn[0, 0, :4, 0].tolist() == [0, 128, 0, 224]
    assert drawn.shape == maps.shape
    assert np.abs(drawn - np.clip(share, 0, 1) * 255).max() <= 0.501
    words = sent(pb.IMAGE_FORMAT_UINT16).tensor
    assert words.data_type == model_pb2.DATA_TYPE_UINT16
    sixteen = np.frombuffer(words.data, "<u2").reshape(maps.shape)
    assert np.abs(sixteen - np.clip(share, 0, 1) * 65535).max() <= 0.51
    files = sent(pb.IMAGE_FORMAT_PNG).encoded.files
    for file, expected in zip(files, drawn, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file))), expected[..., 0])
    assert [png.header(file) for file in sent(pb.IMAGE_FORMAT_PNG16).encoded.files] == [(SIZE, SIZE, 16, True)] * 2
    assert not sent(pb.IMAGE_FORMAT_NONE).WhichOneof("source")


@pytest.mark.parametrize("name", ["fixed", "free"])
def test_a_request_chooses_its_thresholds(served: Served, name: str) -> None:
    batch = np.full((1, SIZE, SIZE, 1), 0.5, np.float32)  # maps of 0.25 exactly
    below = float(np.nextafter(np.float32(0.25), np.float32(0)))

    def answered(**more: float) -> tuple[bool, float, float, int]:
        answer = detect(served, batch, name, **more)
        return answer.anomalous[0], answer.threshold, answer.map_threshold, len(answer.regions)

    assert answered(threshold=0.25) == (False, 0.25, 0.625, 0)
    assert answered(threshold=below) == (True, below, 0.625, 0)
    assert answered(map_threshold=below) == (False, 0.5, below, 1)
    assert answered(threshold=-1, map_threshold=-1) == (True, -1, -1, 1)
    assert answered(false_alarm_rate=0.1) == (False, 0.25, 0.375, 0)
    assert answered(false_alarm_rate=0.05) == (False, 0.5, 0.625, 0)
    assert answered(false_alarm_rate=1) == (False, 0.25, 0.375, 0)
    assert answered(false_alarm_rate=0.001, map_threshold=0) == (False, 0.875, 0, 1)


NAN, INFINITY = float("nan"), float("inf")
REFUSALS: dict[str, tuple[dict[str, Any], str, str]] = {
    "NaN threshold": ({"threshold": NAN}, "threshold", "expected a finite number, got nan"),
    "infinite threshold": ({"threshold": INFINITY}, "threshold", "expected a finite number, got inf"),
    "NaN map threshold": ({"map_threshold": NAN}, "map_threshold", "expected a finite number, got nan"),
    "both": (
        {"threshold": 0.5, "false_alarm_rate": 0.01},
        "false_alarm_rate",
        "expected either threshold or false_alarm_rate, got both",
    ),
    "too low a rate": (
        {"false_alarm_rate": 0.0005},
        "false_alarm_rate",
        "expected a rate from 0.001, the lowest that the calibration on 1000 images can tell, to 1, got 0.0005",
    ),
    "a rate of nothing": ({"false_alarm_rate": 0}, "false_alarm_rate", "to 1, got 0"),
    "a rate of more than all": ({"false_alarm_rate": 1.5}, "false_alarm_rate", "to 1, got 1.5"),
    "NaN rate": ({"false_alarm_rate": NAN}, "false_alarm_rate", "to 1, got nan"),
    "unknown format": ({"map_format": 77}, "map_format", "expected one of IMAGE_FORMAT_UNSPECIFIED"),
    "a map threshold that is black": (
        {"map_threshold": 0.125, "map_format": pb.IMAGE_FORMAT_PNG},
        "map_threshold",
        "expected more than 0.125, which IMAGE_FORMAT_PNG draws black, got 0.125: or ask for IMAGE_FORMAT_FLOAT32",
    ),
    "no images": ({"images": pb.Images()}, "images", "expected images as a tensor or as encoded files, got neither"),
}


@pytest.mark.parametrize("name", ["fixed", "free"])
@pytest.mark.parametrize("case", REFUSALS)
def test_bad_requests_are_refused_in_one_sentence(served: Served, case: str, name: str) -> None:
    more, field, text = REFUSALS[case]
    got = refusal(served, **{"model_name": name, "images": images(pictures(1)), **more})
    assert got[0] == field
    assert text in got[1]


def test_a_rate_is_not_promised_for_another_size(served: Served) -> None:
    field, text = refusal(served, model_name="free", images=images(pictures(1, 20, 16)), false_alarm_rate=0.1)
    assert field == "false_alarm_rate"
    assert text == (
        "expected images of the size that rates are calibrated for, 16 x 16, got 20 x 16: send threshold instead"
    )
    assert detect(served, pictures(1, 20, 16), "free").threshold == 0.5


def test_rates_of_unknown_origin_are_promised_for_no_size(served: Served) -> None:
    sent = {"model_name": "unknown", "images": images(pictures(1))}
    field, text = refusal(served, **sent, false_alarm_rate=0.1)
    assert (field, "calibrated for, no size that is known, got 16 x 16" in text) == ("false_alarm_rate", True)
    field, text = refusal(served, **sent, false_alarm_rate=0.0001)
    assert "the lowest that the calibration can tell" in text
    assert served.stub.Detect(pb.DetectRequest(**sent)).threshold == 0.5


def encoded(*batches: np.ndarray) -> pb.Images:
    files = [png.encode(np.rint(each * 255).astype(np.uint8)) for each in batches]
    return pb.Images(encoded=pb.EncodedImages(files=files))


def test_files_of_many_sizes(served: Served) -> None:
    sent = encoded(pictures(1)[0], pictures(1, 40, 33, seed=1)[0])
    request = pb.DetectRequest(model_name="free", images=sent, map_format=pb.IMAGE_FORMAT_PNG)
    answer = served.stub.Detect(request)
    assert [png.header(file)[:2] for file in answer.maps.encoded.files] == [(16, 16), (33, 40)]
    assert {region.image for region in answer.regions} == {0, 1}
    assert len(array(answer.scores)) == 2
    request.map_format = pb.IMAGE_FORMAT_NONE
    assert served.stub.Detect(request).regions == answer.regions
    field, text = refusal(served, model_name="free", images=sent, map_format=pb.IMAGE_FORMAT_UINT8)
    assert (field, text.startswith("expected images of one size: ask for IMAGE_FORMAT_PNG")) == ("images", True)


def test_files_for_a_model_of_one_size(served: Served) -> None:
    answer = served.stub.Detect(pb.DetectRequest(model_name="fixed", images=encoded(*pictures(3))))
    assert len(answer.anomalous) == 3


def test_many_requests_of_one_form_are_answered_each_by_its_own(served: Served) -> None:
    """They are recognised without parsing, and run together."""
    batches = [pictures(1, seed=seed) for seed in range(60)]
    sent = [
        served.stub.Detect.future(
            pb.DetectRequest(model_name="fixed", images=images(each), map_format=pb.IMAGE_FORMAT_FLOAT32)
        )
        for each in batches
    ]
    for call, batch in zip(sent, batches, strict=True):
        answer = call.result(timeout=60)
        np.testing.assert_array_equal(array(answer.maps.tensor), batch * batch)
        assert list(answer.regions) == regions.find((batch * batch)[..., 0], 0.625)


def test_detect_on_a_stream(served: Served) -> None:
    requests = [
        pb.StreamRequest(id="fixed", detect=pb.DetectRequest(model_name="fixed", images=images(pictures(2)))),
        pb.StreamRequest(id="free", detect=pb.DetectRequest(model_name="free", images=images(pictures(1, 50, 20)))),
        pb.StreamRequest(
            id="bad", detect=pb.DetectRequest(model_name="free", images=images(pictures(1)), threshold=NAN)
        ),
    ]
    answers = {answer.id: answer for answer in served.stub.Stream(iter(requests))}
    assert answers["fixed"].detect == unlike_info(detect(served, pictures(2), "fixed"), answers["fixed"].detect)
    assert len(answers["free"].detect.anomalous) == 1
    assert answers["bad"].error.message == "threshold: expected a finite number, got nan"


def unlike_info(answer: pb.DetectResponse, other: pb.DetectResponse) -> pb.DetectResponse:
    answer.info.CopyFrom(other.info)
    return answer


@pytest.mark.parametrize("name", ["fixed", "free"])
def test_the_graph_over_the_open_inference_protocol(served: Served, name: str) -> None:
    batch = pictures(2)
    counted = {"model": name, "version": "1"}
    before = metric(served, "autoencoder_anomaly_score_count", **counted)
    given = oip.ModelInferRequest.InferInputTensor(name="images", datatype="FP32", shape=batch.shape)
    request = oip.ModelInferRequest(model_name=f"{name}.detect", inputs=[given], raw_input_contents=[batch.tobytes()])
    answer = open_inference_pb2_grpc.GRPCInferenceServiceStub(served.channel).ModelInfer(request)
    outputs = dict(zip([each.name for each in answer.outputs], answer.raw_output_contents, strict=True))
    assert outputs["maps"] == (batch * batch).tobytes()
    assert ("scores" in outputs) == (name == "fixed")
    assert metric(served, "autoencoder_anomaly_score_count", **counted) == before + 2


def test_other_models_have_no_detect(served: Served) -> None:
    assert list(served.stub.GetModel(pb.GetModelRequest(model_name="free")).model.methods) == ["Detect"]
    with pytest.raises(grpc.RpcError) as error:
        served.stub.Reconstruct(pb.ReconstructRequest(model_name="free", images=images(pictures(1))))
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
