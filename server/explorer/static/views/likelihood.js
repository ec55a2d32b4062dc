// How likely a picture is under the model: a lower bound of its log-likelihood in nats.

import { asImages } from "../images.js";
import { asNumber } from "../format.js";
import { Problem } from "../parts.js";
import { html, useEffect } from "../preact.js";
import { to, useRequest } from "../requests.js";
import { numbers } from "../tensors.js";

export function Likelihood({ api, model, picture }) {
  const request = useRequest(api, async (images) => {
    // With a seed, the same picture has the same score again.
    const answer = await api.call("Score", { ...to(model), images, seed: "0" });
    return numbers(answer.log_likelihoods)[0];
  });
  useEffect(() => picture && request.send(asImages(picture)), [picture]);
  return html`<div>
    <h3>Likelihood</h3>
    <p>${request.answer === undefined || request.answer === null ? "Nothing to score yet." : sentence(request.answer, model)}</p>
    <${Problem} text=${request.problem} />
  </div>`;
}

function sentence(nats, model) {
  const drawn = model.likelihood?.binarised ? ", each pixel drawn to be black or white" : "";
  return `At least ${asNumber(nats)} nats, from 64 samples${drawn}.`;
}
