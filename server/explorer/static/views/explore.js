// The map of the latent space, the decoded picture of a place on it, and sliders for what the map does not show.

import { asNumber } from "../format.js";
import { pictures } from "../images.js";
import { Latest } from "../latest.js";
import { nearestLabel } from "../map.js";
import { Choice, Picture, Problem, Section, Slider } from "../parts.js";
import { html, useLayoutEffect, useMemo, useRef, useState } from "../preact.js";
import { tensor } from "../tensors.js";
import { Legend, LatentMap } from "./latent_map.js";

const REACH = 3;
// The browser keeps every measure until it is told otherwise.
const MEASURES = 1000;

export function Explore({ api, model, space, latent, points, ranges, marks, onMove }) {
  const [axes, setAxes] = useState([0, Math.min(1, space.count - 1)]);
  const [shifts, setShifts] = useState({});
  const [picked, setPicked] = useState(null);
  const [decoded, setDecoded] = useState(null);
  const [problem, setProblem] = useState("");
  const started = useRef(performance.now());
  const decode = useMemo(
    () =>
      new Latest(async (wanted) => {
        try {
          const picture = await decodeOne(api, model, space, wanted.latent, wanted.shifts);
          setDecoded({ picture, since: wanted.since });
          setProblem("");
        } catch (error) {
          setProblem(error.message);
        }
      }),
    [api, model, space],
  );
  // Not useEffect, which waits for a frame.
  useLayoutEffect(() => decode.push({ latent, shifts, since: started.current }), [decode, latent, shifts]);
  const coordinates = space.coordinates(latent);
  const scene = useMemo(() => ({ points, axes, ranges: ranges(axes), picked }), [points, axes, ranges, picked]);

  function move(wanted) {
    started.current = performance.now();
    onMove(space.moved(latent, wanted));
  }

  return html`<${Section} title="Latent space" about=${describe(space, axes, points)} wide=${true}>
    <div class="explore">
      <div>
        <${LatentMap} scene=${scene} space=${space} marks=${marks} coordinates=${coordinates}
          onMove=${([x, y]) => move({ [axes[0]]: x, [axes[1]]: y })} />
        <${Legend} points=${points} picked=${picked} onPick=${setPicked} />
      </div>
      <div>
        <${Drawn} decoded=${decoded} />
        <p class="place"><output aria-live="polite">${place(space, axes, coordinates, points)}</output></p>
        <${Problem} text=${problem} />
        <button type="button" onClick=${() => { setShifts({}); onMove(Float64Array.from(space.mean)); }}>Back to the mean</button>
        ${space.count > 2 && html`<${Axes} space=${space} axes=${axes} onChange=${setAxes} />`}
        <${Sliders} model=${model} space=${space} coordinates=${coordinates} shifts=${shifts}
          onMove=${move} onShift=${(name, amount) => setShifts({ ...shifts, [name]: amount })} />
      </div>
    </div>
  <//>`;
}

// The decoded picture; notes how long it took from the movement to the picture, for the browser's own tools.
function Drawn({ decoded }) {
  useLayoutEffect(() => {
    if (!decoded) return;
    if (performance.getEntriesByType("measure").length >= MEASURES) performance.clearMeasures();
    performance.measure("drag-to-picture", { start: decoded.since, end: performance.now() });
  }, [decoded]);
  return html`<${Picture} picture=${decoded?.picture} name="Decoded picture" large=${true} />`;
}

function Axes({ space, axes, onChange }) {
  const options = Array.from({ length: space.count }, (_, axis) => [axis, space.name(axis)]);
  return html`<div class="row">
    <${Choice} name="Across" value=${axes[0]} options=${options} onChange=${(axis) => onChange([Number(axis), axes[1]])} />
    <${Choice} name="Up" value=${axes[1]} options=${options} onChange=${(axis) => onChange([axes[0], Number(axis)])} />
  </div>`;
}

function Sliders({ model, space, coordinates, shifts, onMove, onShift }) {
  const attributes = model.methods.includes("Edit") ? model.attributes : [];
  return html`<div class="sliders">
    <h3>${space.whole ? "Numbers of the latent" : "Leading components"}, in standard deviations</h3>
    ${coordinates.map((value, axis) => {
      const deviation = space.deviations[axis] || 1;
      return html`<${Slider} key=${axis} name=${space.name(axis)} low=${-REACH} high=${REACH} step="0.05"
        value=${value / deviation} text=${asNumber(value / deviation, 2)}
        onInput=${(amount) => onMove({ [axis]: amount * deviation })} onReset=${() => onMove({ [axis]: 0 })} />`;
    })}
    ${attributes.length > 0 && html`<h3>Attributes, in standard deviations</h3>`}
    ${attributes.map((name) => html`<${Slider} key=${name} name=${name} low=${-REACH} high=${REACH} step="0.05"
      value=${shifts[name] ?? 0} text=${asNumber(shifts[name] ?? 0, 2)}
      onInput=${(amount) => onShift(name, amount)} onReset=${() => onShift(name, 0)} />`)}
  </div>`;
}

async function decodeOne(api, model, space, latent, shifts) {
  const moves = Object.entries(shifts).filter(([, amount]) => amount !== 0);
  const request = {
    model_name: model.name,
    model_version: model.version,
    latents: tensor(latent, [1, ...space.shape]),
    image_format: "IMAGE_FORMAT_UINT8",
  };
  if (moves.length) request.shifts = moves.map(([attribute, amount]) => ({ attribute, amount }));
  const answer = await api.call(moves.length ? "Edit" : "Decode", request);
  return pictures(answer.images)[0];
}

function describe(space, axes, points) {
  const shown = points.coordinates.length
    ? ` The points are ${points.coordinates.length.toLocaleString("en")} ${points.source}${points.source === "samples" ? ", because the bundle has no reference points" : ""}.`
    : " The bundle has no reference points, and the model draws no samples.";
  return space.describe(...axes) + shown;
}

function place(space, axes, coordinates, points) {
  const label = nearestLabel(points, axes, axes.map((axis) => coordinates[axis]));
  const near = label === undefined ? "" : `, next to ${points.names[label]}`;
  return `${axes.map((axis) => `${space.name(axis)} ${asNumber(coordinates[axis], 2)}`).join(", ")}${near}`;
}
