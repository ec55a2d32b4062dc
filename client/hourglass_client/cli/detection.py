"""`hourglass detect`: which images are anomalous and where, and pictures of it."""

from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath

import numpy as np
from autoencoder.v1 import png
from autoencoder.v1.model_pb2 import Model
from autoencoder.v1.shapes import Shapes

from hourglass_client.answers import Detected, Region
from hourglass_client.cli.calls import answers_to, facts_of, model_named
from hourglass_client.cli.inputs import ImageBatch
from hourglass_client.cli.overlays import overlay, picture
from hourglass_client.cli.results import Result
from hourglass_client.client import Client

ANOMALOUS = 10
"""The exit code when an image is anomalous."""
_VERDICTS = ("normal", "anomalous")


def detect(client: Client, arguments: Namespace) -> Result:
    """Scores, verdicts and regions; with --out pictures of them."""
    rows: list[Mapping[str, object]] = []
    facts: dict[str, object] = {}
    found: dict[str, bool] = {}
    thresholds = {name: getattr(arguments, name) for name in ("threshold", "map_threshold", "false_alarm_rate")}
    form = "uint8" if arguments.out else "none"
    for batch, answer in answers_to(client, client.detect, arguments, **thresholds, map_format=form):
        facts = {**facts_of(answer.info), "threshold": answer.threshold, "map_threshold": answer.map_threshold}
        regions = _by_image(answer)
        for index, name in enumerate(batch.names):
            found[name] = bool(answer.anomalous[index])
            rows.append(_row(name, float(answer.scores[index]), regions[index], arguments, anomalous=found[name]))
            if arguments.out:
                arguments.files.add(arguments.out / f"{name}.png", _drawn(batch, index, answer, regions[index]))
    if arguments.threshold is None:
        facts |= _promise(client.get_model(**model_named(arguments)), arguments)
    facts |= {"images": len(found), "anomalous": sum(found.values()), **_folders(found, arguments)}
    return Result(facts, rows, exit_code=ANOMALOUS if any(found.values()) else 0)


def _by_image(answer: Detected) -> dict[int, list[Region]]:
    found: dict[int, list[Region]] = defaultdict(list)
    for region in answer.regions:
        found[region.image].append(region)
    return found


def _row(
    name: str, score: float, regions: Iterable[Region], arguments: Namespace, *, anomalous: bool
) -> Mapping[str, object]:
    """A line of the table, or with --json all that is known."""
    boxes = [{field: value for field, value in asdict(region).items() if field != "image"} for region in regions]
    if arguments.json:
        return {"image": name, "score": score, "anomalous": anomalous, "regions": boxes}
    return {"image": name, "score": score, "verdict": _VERDICTS[anomalous], "regions": len(boxes)}


def _drawn(batch: ImageBatch, index: int, answer: Detected, regions: Sequence[Region]) -> bytes:
    heat = answer.maps[index, ..., 0]
    return png.encode(np.ascontiguousarray(overlay(picture(batch, index, heat.shape), heat, regions)))


def _promise(model: Model, arguments: Namespace) -> dict[str, object]:
    """The rate of false alarms that the threshold was calibrated for, and between what the true one lies."""
    detection = model.detection
    wanted = np.float32(arguments.false_alarm_rate or detection.default_rate)
    known = zip(detection.rates, detection.rate_lower, detection.rate_upper, strict=True)
    rates = [row for row in known if row[0] <= wanted]
    if not rates:
        # Meanwhile another version has come, which cannot tell this rate.
        return {}
    rate, lower, upper = rates[-1]
    size = detection.calibrated_height, detection.calibrated_width
    if arguments.json:
        interval = {"false_alarm_rate": rate, "false_alarm_interval": [lower, upper]}
        return {**interval, "calibrated_on": detection.calibrated_on, "calibrated_size": size}
    of_size = f" of {size[0]} x {size[1]}" if all(size) else ""
    on = f"{detection.calibrated_on} images{of_size}" if detection.calibrated_on else "images that are not known"
    others = "; of other sizes it is not known" if Shapes.of(model).free else ""
    return {"false_alarm_rate": f"{rate:.2g} (99.9 % interval {lower:.2g} to {upper:.2g}, calibrated on {on}{others})"}


def _folders(found: Mapping[str, bool], arguments: Namespace) -> dict[str, object]:
    """How many are anomalous in each subfolder, where there are several."""
    verdicts: dict[str, list[bool]] = defaultdict(list)
    for name, anomalous in found.items():
        verdicts[str(PurePath(name).parent)].append(anomalous)
    if len(verdicts) == 1:
        return {}
    if arguments.json:
        counts = {folder: {"images": len(each), "anomalous": sum(each)} for folder, each in verdicts.items()}
        return {"folders": counts}
    return {f"anomalous in {folder}": f"{sum(each)} of {len(each)}" for folder, each in verdicts.items()}
