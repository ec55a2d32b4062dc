// Noisy beside denoised.

import { asImages, noisy, pictures } from "../images.js";
import { asNumber } from "../format.js";
import { Picture, Problem, Slider } from "../parts.js";
import { html, useEffect, useMemo, useState } from "../preact.js";
import { to, useRequest } from "../requests.js";

const MOST_NOISE = 1;

export function Denoise({ api, model, picture }) {
  const level = model.noise_level;
  const [added, setAdded] = useState(level ? (level.minimum + level.maximum) / 2 : 0.5);
  const shown = useMemo(() => picture && noisy(picture, added), [picture, added]);
  const request = useRequest(api, async (given) => {
    const answer = await api.call("Denoise", {
      ...to(model),
      images: asImages(given.picture),
      image_format: "IMAGE_FORMAT_UINT8",
      ...(level ? { noise_levels: [given.level] } : {}),
    });
    return pictures(answer.images)[0];
  });
  useEffect(() => {
    if (shown) request.send({ picture: shown, level: level && Math.min(Math.max(added, level.minimum), level.maximum) });
  }, [shown]);
  return html`<div>
    <h3>Denoise</h3>
    <${Slider} name="Noise to add" low="0" high=${level?.maximum ?? MOST_NOISE} step="0.01" value=${added}
      text=${`σ ${asNumber(added, 2)}`} onInput=${setAdded} />
    <div class="row">
      <${Picture} picture=${shown} name="Noisy" />
      <${Picture} picture=${request.answer} name="Denoised" />
    </div>
    <${Problem} text=${request.problem} />
  </div>`;
}
