// The map of the latent space, the decoded picture of a place on it, and sliders for what the map does not show.

import { asPosition } from "../format.js";
import { nearestLabel } from "../map.js";
import { Choice, Section, Slider } from "../parts.js";
import { usePlace } from "../place.js";
import { html, useMemo, useState } from "../preact.js";
import { Decoded } from "./decoded.js";
import { LatentMap, Legend } from "./latent_map.js";

const REACH = 3;

export function Explore({ api, model, space, place, points, ranges, marks }) {
  usePlace(place);
  const [axes, setAxes] = useState([0, Math.min(1, space.count - 1)]);
  const [picked, setPicked] = useState(null);
  const scene = useMemo(() => ({ points, axes, ranges: ranges(axes), picked }), [points, axes, ranges, picked]);
  const coordinates = space.coordinates(place.latent);
  const attributes = model.methods.includes("Edit") ? model.attributes : [];
  // Where both axes are the same one, as those of a latent of one number, the one across counts.
  const move = (wanted) => place.go(space.moved(place.latent, wanted));

  return html`<${Section} title="Latent space" about=${describe(space, axes, points)} wide=${true}>
    <div class="explore">
      <div>
        <${LatentMap} scene=${scene} space=${space} marks=${marks} coordinates=${coordinates}
          onMove=${([x, y]) => move({ [axes[1]]: y, [axes[0]]: x })} />
        <${Legend} points=${points} picked=${picked} onPick=${setPicked} />
        ${attributes.length > 0 && html`<${Attributes} names=${attributes} shifts=${place.shifts}
          onShift=${(name, amount) => place.shift(name, amount)} />`}
      </div>
      <div>
        <${Decoded} api=${api} model=${model} space=${space} place=${place} />
        <p class="place"><output>${where(space, axes, coordinates, points)}</output></p>
        <button type="button" onClick=${() => place.reset(space.mean)}>Back to the mean</button>
        ${space.count > 2 && html`<${Axes} space=${space} axes=${axes} onChange=${setAxes} />`}
        <${Components} space=${space} coordinates=${coordinates} onMove=${move} />
      </div>
    </div>
  <//>`;
}

function Axes({ space, axes, onChange }) {
  const options = Array.from({ length: space.count }, (_, axis) => [axis, space.name(axis)]);
  return html`<div class="row">
    <${Choice} name="Across" value=${axes[0]} options=${options} onChange=${(axis) => onChange([Number(axis), axes[1]])} />
    <${Choice} name="Up" value=${axes[1]} options=${options} onChange=${(axis) => onChange([axes[0], Number(axis)])} />
  </div>`;
}

function Components({ space, coordinates, onMove }) {
  return html`<h3>${space.whole ? "Numbers of the latent" : "Leading components"}, in standard deviations</h3>
    <div class="sliders">
      ${coordinates.map((value, axis) => {
        const deviation = space.deviations[axis] || 1;
        return html`<${Slider} key=${axis} name=${space.name(axis)} low=${-REACH} high=${REACH} step="0.05"
          value=${asPosition(value / deviation)} text=${asPosition(value / deviation)}
          onInput=${(amount) => onMove({ [axis]: amount * deviation })} onReset=${() => onMove({ [axis]: 0 })} />`;
      })}
    </div>`;
}

function Attributes({ names, shifts, onShift }) {
  return html`<h3>Attributes, in standard deviations</h3>
    <div class="sliders">
      ${names.map((name) => html`<${Slider} key=${name} name=${name} low=${-REACH} high=${REACH} step="0.05"
        value=${shifts.get(name) ?? 0} text=${asPosition(shifts.get(name) ?? 0)}
        onInput=${(amount) => onShift(name, amount)} onReset=${() => onShift(name, 0)} />`)}
    </div>`;
}

function describe(space, axes, points) {
  if (!points.coordinates.length) {
    return `${space.describe(...axes)} The bundle has no reference points, and the model draws no samples.`;
  }
  const why = points.source === "samples" ? ", because the bundle has no reference points" : "";
  return `${space.describe(...axes)} The points are ${points.coordinates.length.toLocaleString("en")} ${points.source}${why}.`;
}

function where(space, axes, coordinates, points) {
  const label = nearestLabel(points, axes, axes.map((axis) => coordinates[axis]));
  const near = label === undefined ? "" : `, next to ${points.names[label]}`;
  return `${axes.map((axis) => `${space.name(axis)} ${asPosition(coordinates[axis])}`).join(", ")}${near}`;
}
