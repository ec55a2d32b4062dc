// A walk between two pictures.

import { asImages, mosaic, pictures } from "../images.js";
import { Choice, Field, Picture, Problem, Section, Slider } from "../parts.js";
import { html, useState } from "../preact.js";
import { to, useRequest } from "../requests.js";
import { tensor } from "../tensors.js";

const PATHS = [
  ["INTERPOLATION_LINEAR", "straight"],
  ["INTERPOLATION_SPHERICAL", "along a great circle"],
];

export function Walk({ api, model, space, place, picture }) {
  const [ends, setEnds] = useState({ from: null, to: null });
  const [steps, setSteps] = useState(11);
  const [path, setPath] = useState(PATHS[0][0]);
  const [step, setStep] = useState(0);
  const request = useRequest(api, async (wanted) => {
    const answer = await api.call("Interpolate", {
      ...to(model),
      ...wanted.ends.from.field("from"),
      ...wanted.ends.to.field("to"),
      steps: wanted.steps,
      interpolation: wanted.path,
      image_format: "IMAGE_FORMAT_UINT8",
    });
    return pictures(answer.images);
  });
  const walked = request.answer;
  const at = walked ? Math.min(step, walked.length - 1) : 0;

  return html`<${Section} title="Walk between two pictures" about="Take two ends, then walk." wide=${true}>
    ${["from", "to"].map((end) => html`<div class="row" key=${end} role="group" aria-label=${end === "from" ? "Start" : "End"}>
      <span class="end">${end === "from" ? "Start" : "End"}: ${ends[end]?.text ?? "none yet"}</span>
      <button type="button" disabled=${!picture} onClick=${() => setEnds({ ...ends, [end]: fromPicture(picture) })}>your picture</button>
      ${place && html`<button type="button" onClick=${() => setEnds({ ...ends, [end]: fromLatent(space, place.latent) })}>the place on the map</button>`}
    </div>`)}
    <div class="row">
      <${Field} name="Steps" min="2" max="64" value=${steps} onInput=${(text) => setSteps(Number(text))} />
      <${Choice} name="Path" value=${path} options=${PATHS} onChange=${setPath} />
      <button type="button" disabled=${!ends.from || !ends.to} onClick=${() => request.send({ ends, steps, path })}>Walk</button>
    </div>
    <${Problem} text=${request.problem} />
    ${walked && html`
      <${Slider} name="Step" low="0" high=${walked.length - 1} step="1" value=${at} text=${`${at + 1} of ${walked.length}`} onInput=${setStep} />
      <${Picture} picture=${walked[at]} name="On the way" large=${true} />
      <div class="strip"><${Picture} picture=${mosaic(walked, walked.length)} name="The whole walk" /></div>
    `}
  <//>`;
}

function fromPicture(picture) {
  const images = asImages(picture);
  return { text: "your picture", field: (end) => ({ [`${end}_images`]: images }) };
}

function fromLatent(space, latent) {
  const latents = tensor(latent, [1, ...space.shape]);
  return { text: "a place on the map", field: (end) => ({ [`${end}_latents`]: latents }) };
}
