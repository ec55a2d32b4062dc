// New pictures from the model's density; a seed shows the same ones again.

import { pictures } from "../images.js";
import { Field, Picture, Problem, Section, Slider } from "../parts.js";
import { asNumber } from "../format.js";
import { html, useState } from "../preact.js";
import { to, useRequest } from "../requests.js";
import { rows } from "../tensors.js";

// Of models with free sizes.
const FREE_SIDE = 64;

export function Sample({ api, model, place, onPicture }) {
  const [count, setCount] = useState(16);
  const [seed, setSeed] = useState("");
  const [temperature, setTemperature] = useState(1);
  const request = useRequest(api, async (wanted) => {
    const answer = await api.call("Sample", {
      ...to(model),
      ...wanted,
      include_latents: true,
      image_format: "IMAGE_FORMAT_UINT8",
      ...(model.height ? {} : { height: FREE_SIDE, width: FREE_SIDE }),
    });
    // Seeds have up to 64 bits, which JSON writes as text.
    setSeed(answer.seed);
    return { all: pictures(answer.images), latents: rows(answer.latents), seed: answer.seed };
  });

  function draw(with_seed) {
    request.send({ count, temperature, ...(with_seed ? { seed: with_seed } : {}) });
  }

  return html`<${Section} title="Sample">
    <div class="row">
      <${Field} name="Pictures" min="1" max="64" value=${count} onInput=${(text) => setCount(Number(text))} />
      <${Field} name="Seed" type="text" inputmode="numeric" value=${seed} placeholder="drawn by the server" onInput=${setSeed} />
      <button type="button" onClick=${() => draw("")}>Draw new ones</button>
      <button type="button" disabled=${!seed} onClick=${() => draw(seed)}>The same again</button>
    </div>
    <${Slider} name="Temperature" low="0" high="2" step="0.05" value=${temperature} text=${asNumber(temperature, 2)} onInput=${setTemperature} />
    <${Problem} text=${request.problem} />
    ${request.answer && html`
      <p role="status">${request.answer.all.length} pictures of seed ${request.answer.seed}.</p>
      <ul class="samples">
        ${request.answer.all.map((picture, index) => html`<li key=${index}>
          <${Picture} picture=${picture} name=${`Sample ${index + 1}`} />
          ${place && html`<button type="button" aria-label=${`Show sample ${index + 1} on the map`} onClick=${() => place.go(request.answer.latents[index])}>map</button>`}
          <button type="button" aria-label=${`Take sample ${index + 1} as your picture`} onClick=${() => onPicture(picture)}>take</button>
        </li>`)}
      </ul>
    `}
  <//>`;
}
