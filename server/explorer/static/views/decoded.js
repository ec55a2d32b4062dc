// The picture of the place, decoded as soon as it moves.

import { pictures } from "../images.js";
import { Picture, Problem } from "../parts.js";
import { html, useLayoutEffect } from "../preact.js";
import { to, useRequest } from "../requests.js";
import { tensor } from "../tensors.js";

// The browser keeps every measure until it is asked to forget them.
const MOST_MEASURES = 1000;

export function Decoded({ api, model, space, place }) {
  const request = useRequest(api, async (since) => ({ since, picture: await decode(api, model, space, place) }));
  const { answer, problem, send } = request;
  useLayoutEffect(() => {
    send(performance.now());
    return place.onMove(send);
  }, [place]);
  // After the picture's own effect, which paints it; the browser's developer tools show these.
  useLayoutEffect(() => {
    if (!answer) return;
    if (performance.getEntriesByType("measure").length >= MOST_MEASURES) performance.clearMeasures();
    performance.measure("drag-to-picture", { start: answer.since, end: performance.now() });
  }, [answer]);
  return html`
    <${Picture} picture=${answer?.picture} name="Decoded picture" large=${true} />
    <${Problem} text=${problem} />
  `;
}

async function decode(api, model, space, place) {
  const shifts = [...place.shifts].filter(([, amount]) => amount !== 0);
  const request = {
    ...to(model),
    latents: tensor(place.latent, [1, ...space.shape]),
    image_format: "IMAGE_FORMAT_UINT8",
  };
  if (shifts.length) request.shifts = shifts.map(([attribute, amount]) => ({ attribute, amount }));
  const answer = await api.call(shifts.length ? "Edit" : "Decode", request);
  return pictures(answer.images)[0];
}
