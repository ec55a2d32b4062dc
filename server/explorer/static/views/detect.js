// What stands out in a picture: score, verdict by a threshold that one moves, map and regions.

import { asImages, pictures } from "../images.js";
import { asNumber, asShare } from "../format.js";
import { Picture, Problem, Slider } from "../parts.js";
import { html, useEffect, useMemo, useState } from "../preact.js";
import { to, useRequest } from "../requests.js";
import { numbers } from "../tensors.js";

// The slider reaches so many times the highest calibrated threshold.
const REACH = 2;

export function Detect({ api, model, picture }) {
  const calibrated = useMemo(() => defaults(model.detection), [model]);
  const [threshold, setThreshold] = useState(calibrated.threshold);
  const [mapThreshold, setMapThreshold] = useState(calibrated.mapThreshold);
  const request = useRequest(api, async (wanted) => {
    const answer = await api.call("Detect", {
      ...to(model),
      images: asImages(wanted.picture),
      threshold: wanted.threshold,
      map_threshold: wanted.mapThreshold,
      map_format: "IMAGE_FORMAT_UINT8",
    });
    const [map] = pictures(answer.maps);
    return { score: numbers(answer.scores)[0], anomalous: answer.anomalous[0], map, regions: answer.regions };
  });
  useEffect(() => {
    if (picture) request.send({ picture, threshold, mapThreshold });
  }, [picture, threshold, mapThreshold]);
  const answer = request.answer;
  return html`<div>
    <h3>Detect</h3>
    <${Slider} name="Threshold of the score" low="0" high=${REACH * calibrated.highest} value=${threshold}
      text=${`${asNumber(threshold)}${rateText(model.detection, threshold)}`} onInput=${setThreshold} onReset=${() => setThreshold(calibrated.threshold)} />
    <${Slider} name="Threshold of the map" low=${1.0001 * model.detection.map_low} high=${REACH * calibrated.highestMap} value=${mapThreshold}
      text=${asNumber(mapThreshold)} onInput=${setMapThreshold} onReset=${() => setMapThreshold(calibrated.mapThreshold)} />
    <p class="verdict">${answer ? verdict(answer) : "Nothing to inspect yet."}</p>
    <div class="row">
      <${Marked} picture=${picture} regions=${answer?.regions ?? []} />
      <${Picture} picture=${answer?.map} name="Anomaly map" />
    </div>
    <${Problem} text=${request.problem} />
  </div>`;
}

// The picture with a box around each region.
function Marked({ picture, regions }) {
  const size = picture ?? { width: 1, height: 1 };
  return html`<div class="marked">
    <${Picture} picture=${picture} name="Regions" />
    <svg viewBox=${`0 0 ${size.width} ${size.height}`} aria-hidden="true">
      ${regions.map((box) => html`<rect x=${box.left} y=${box.top} width=${box.width} height=${box.height} />`)}
    </svg>
  </div>`;
}

function verdict(answer) {
  const found = answer.regions.length === 1 ? "1 region stands" : `${answer.regions.length} regions stand`;
  return `${answer.anomalous ? "Anomalous" : "Normal"}: score ${asNumber(answer.score)}; ${found} out.`;
}

function defaults(detection) {
  const index = Math.max(0, detection.rates.indexOf(detection.default_rate));
  return {
    threshold: detection.thresholds[index],
    mapThreshold: detection.map_thresholds[index],
    highest: Math.max(...detection.thresholds),
    highestMap: Math.max(...detection.map_thresholds),
  };
}

// The share of normal images that a threshold calls anomalous, as far as the calibration tells.
function rateText(detection, threshold) {
  const known = detection.rates.find((_, index) => detection.thresholds[index] <= threshold);
  return known === undefined ? "" : `, false alarms up to ${asShare(known)}`;
}
