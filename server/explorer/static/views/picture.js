// A picture of one's own, dropped, chosen or drawn, and all that the model can tell of it.

import { asImages, errorMap, inverted, pictures, readFile, toPicture } from "../images.js";
import { asNumber, asShare } from "../format.js";
import { Picture, Problem, Section } from "../parts.js";
import { html, useEffect, useId, useRef, useState } from "../preact.js";
import { to, useRequest } from "../requests.js";
import { numbers, rows } from "../tensors.js";
import { Denoise } from "./denoise.js";
import { Detect } from "./detect.js";
import { Likelihood } from "./likelihood.js";
import { Pad } from "./pad.js";

export function OwnPicture({ api, model, space, place, picture, onPicture, onMarks }) {
  const [problem, setProblem] = useState("");
  const serves = (method) => model.methods.includes(method);
  const shared = { api, model, picture };

  async function take(file) {
    if (!file) return;
    try {
      onPicture(await readFile(file, model));
      setProblem("");
    } catch (error) {
      setProblem(error.message);
    }
  }

  useDroppedFile(take);
  return html`<${Section} title="A picture of your own" wide=${true} about=${sizeSentence(model)}>
    <div class="row">
      <${FileInput} onFile=${take} />
      <${Pad} onDrawn=${(canvas) => onPicture(toPicture(canvas, model))} />
      <div>
        <${Picture} picture=${picture} name="Your picture" />
        <button type="button" disabled=${!picture} onClick=${() => onPicture(inverted(picture))}>Invert</button>
      </div>
    </div>
    <${Problem} text=${problem} />
    <div class="results">
      ${serves("Encode") && space && html`<${Code} ...${shared} space=${space} place=${place} onMarks=${onMarks} />`}
      ${serves("Reconstruct") && html`<${Reconstruction} ...${shared} />`}
      ${serves("Denoise") && html`<${Denoise} ...${shared} />`}
      ${serves("Classify") && html`<${Classes} ...${shared} />`}
      ${serves("Detect") && html`<${Detect} ...${shared} />`}
      ${serves("Score") && html`<${Likelihood} ...${shared} />`}
    </div>
  <//>`;
}

function sizeSentence(model) {
  const colours = model.channels === 1 ? "grey" : "RGB";
  return model.height
    ? `It becomes ${model.width} × ${model.height} pixels, ${colours}, as the model takes it.`
    : `The model takes any size; pictures above 1,024 pixels a side are made smaller. They become ${colours}.`;
}

function FileInput({ onFile }) {
  const id = useId();
  return html`<div class="field">
    <label for=${id}>Choose a file, or drop one on the page</label>
    <input id=${id} type="file" accept="image/*" onChange=${(event) => void onFile(event.target.files[0])} />
  </div>`;
}

// A file dropped anywhere on the page: beside a smaller target it would replace the page.
function useDroppedFile(onFile) {
  const current = useRef(onFile);
  current.current = onFile;
  useEffect(() => {
    const allow = (event) => event.preventDefault();
    const drop = (event) => {
      event.preventDefault();
      void current.current(event.dataTransfer.files[0]);
    };
    addEventListener("dragover", allow);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragover", allow);
      removeEventListener("drop", drop);
    };
  }, []);
}

// Its place on the map.
function Code({ api, model, space, place, picture, onMarks }) {
  const request = useRequest(api, async (images) => {
    const answer = await api.call("Encode", { ...to(model), images });
    const latent = rows(answer.latents)[0];
    onMarks([{ name: "yours", coordinates: space.coordinates(latent) }]);
    return latent;
  });
  useEffect(() => picture && request.send(asImages(picture)), [picture]);
  const latent = request.answer;
  return html`<div>
    <h3>Code</h3>
    <p>${latent ? `${shown(latent)}; a ring marks it on the map.` : "Not encoded yet."}</p>
    <button type="button" disabled=${!latent} onClick=${() => place.go(latent)}>Go there on the map</button>
    <${Problem} text=${request.problem} />
  </div>`;
}

function shown(latent) {
  const first = Array.from(latent.subarray(0, 8), (value) => asNumber(value, 2)).join(", ");
  return latent.length > 8 ? `${first}, … of ${latent.length} numbers` : first;
}

function Reconstruction({ api, model, picture }) {
  const request = useRequest(api, async (given) => {
    const answer = await api.call("Reconstruct", { ...to(model), images: asImages(given), image_format: "IMAGE_FORMAT_UINT8" });
    const [made] = pictures(answer.images);
    return { made, errors: errorMap(given, made), error: numbers(answer.squared_errors)[0] };
  });
  useEffect(() => picture && request.send(picture), [picture]);
  const answer = request.answer;
  return html`<div>
    <h3>Reconstruction</h3>
    <div class="row">
      <${Picture} picture=${answer?.made} name="Reconstruction" />
      <${Picture} picture=${answer?.errors} name="Error map" />
    </div>
    <p>${answer ? `Squared error ${asNumber(answer.error)} per pixel; white is a difference of 255.` : "Nothing to reconstruct yet."}</p>
    <${Problem} text=${request.problem} />
  </div>`;
}

function Classes({ api, model, picture }) {
  const request = useRequest(api, async (images) => {
    const answer = await api.call("Classify", { ...to(model), images });
    const probabilities = numbers(answer.probabilities);
    return answer.labels.map((name, index) => ({ name, probability: probabilities[index] })).sort((a, b) => b.probability - a.probability);
  });
  useEffect(() => picture && request.send(asImages(picture)), [picture]);
  return html`<div>
    <h3>Classes</h3>
    ${request.answer
      ? html`<ol class="bars">${request.answer.slice(0, 10).map(({ name, probability }) => html`<li key=${name}>
          <span>${name}</span><meter min="0" max="1" value=${probability} aria-label=${name}></meter><span>${asShare(probability)}</span>
        </li>`)}</ol>`
      : html`<p>Nothing to classify yet.</p>`}
    <${Problem} text=${request.problem} />
  </div>`;
}
