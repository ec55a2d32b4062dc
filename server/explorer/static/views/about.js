// What a model is: family, shapes, measures, where it comes from, and its gate's figures.

import { asNumber } from "../format.js";
import { Section } from "../parts.js";
import { html } from "../preact.js";
import { latentShape } from "../space.js";

export function About({ model }) {
  const size = model.height ? `${model.height} × ${model.width}` : "any size";
  const colours = model.channels === 1 ? "grey" : "RGB";
  const code = latentShape(model).length ? latentShape(model).map((axis) => axis || "free").join(" × ") : "none";
  return html`<${Section} title=${`${model.name}, version ${model.version}`} wide=${true}>
    <dl class="facts columns">
      <${Fact} name="Family" value=${model.family + (model.imported ? ", imported" : "")} />
      <${Fact} name="Images" value=${`${size}, ${colours}`} />
      <${Fact} name="Latent" value=${code} />
      <${Fact} name="Methods" value=${model.methods.join(", ")} />
      ${model.labels.length > 0 && html`<${Fact} name="Classes" value=${model.labels.join(", ")} />`}
      ${model.attributes.length > 0 && html`<${Fact} name="Attributes" value=${model.attributes.join(", ")} />`}
      ${model.detection && html`<${Fact} name="Detection" value=${calibration(model.detection)} />`}
    </dl>
    <div class="columns">
      <${Facts} title="Measures" entries=${Object.entries(model.metrics).map(([name, value]) => [name, asNumber(value, 4)])} />
      <${Facts} title="Where it comes from" entries=${Object.entries(model.provenance)} />
      <${Gate} signatures=${model.signatures} />
    </div>
  <//>`;
}

function Fact({ name, value }) {
  return html`<div><dt>${name}</dt><dd>${value}</dd></div>`;
}

function Facts({ title, entries }) {
  if (!entries.length) return null;
  return html`<details>
    <summary>${title}</summary>
    <dl class="facts">${entries.sort().map(([name, value]) => html`<${Fact} key=${name} name=${name} value=${value} />`)}</dl>
  </details>`;
}

function Gate({ signatures }) {
  return html`<details>
    <summary>Graphs and their gate</summary>
    <div class="scroll" tabindex="0" role="region" aria-label="Graphs and their gate">
      <table>
        <thead><tr><th scope="col">graph</th><th scope="col">takes</th><th scope="col">largest error</th><th scope="col">tolerance</th></tr></thead>
        <tbody>
          ${signatures.map((each) => html`<tr key=${each.name}>
            <th scope="row">${each.name}</th>
            <td>${each.inputs.map((spec) => spec.shape.map((axis) => (axis < 0 ? "n" : axis)).join(" × ")).join("; ")}</td>
            <td>${asNumber(each.parity_max_abs_error)}</td>
            <td>${asNumber(each.golden_tolerance)}</td>
          </tr>`)}
        </tbody>
      </table>
    </div>
  </details>`;
}

function calibration(detection) {
  const images = detection.calibrated_on ? `, calibrated on ${detection.calibrated_on} normal images` : "";
  return `${detection.score} of the map${images}`;
}
