// A plane of the latent space, decoded at the nodes of a grid, as one picture.

import { mosaic, pictures } from "../images.js";
import { Choice, Picture, Problem, Section } from "../parts.js";
import { html, useState } from "../preact.js";
import { to, useRequest } from "../requests.js";
import { tensor } from "../tensors.js";

const SIDES = [5, 9, 15, 21];
const REACHES = [1, 2, 3];

export function Grid({ api, model, space, place }) {
  const [side, setSide] = useState(9);
  const [reach, setReach] = useState(2);
  const [axes, setAxes] = useState([0, Math.min(1, space.count - 1)]);
  const request = useRequest(api, async () => {
    const nodes = gridNodes(space, place.latent, axes, side, reach);
    const codes = new Float32Array(side * side * space.size);
    nodes.forEach((node, index) => codes.set(node, index * space.size));
    const answer = await api.call("Decode", {
      ...to(model),
      latents: tensor(codes, [nodes.length, ...space.shape]),
      image_format: "IMAGE_FORMAT_UINT8",
    });
    return { picture: mosaic(pictures(answer.images), side), nodes, side };
  });
  const options = Array.from({ length: space.count }, (_, axis) => [axis, space.name(axis)]);

  function go(event) {
    if (!request.answer || event.target.tagName !== "CANVAS") return;
    const { nodes, side: sides } = request.answer;
    const box = event.target.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * sides);
    const row = Math.floor(((event.clientY - box.top) / box.height) * sides);
    place.go(nodes[row * sides + column]);
  }

  return html`<${Section} title="Grid of decoded codes" about="The plane of two axes through the mean, or through the place on the map. A click on a picture goes there.">
    <div class="row">
      <${Choice} name="Across" value=${axes[0]} options=${options} onChange=${(axis) => setAxes([Number(axis), axes[1]])} />
      <${Choice} name="Up" value=${axes[1]} options=${options} onChange=${(axis) => setAxes([axes[0], Number(axis)])} />
      <${Choice} name="Pictures a side" value=${side} options=${SIDES.map((each) => [each, each])} onChange=${(value) => setSide(Number(value))} />
      <${Choice} name="Standard deviations" value=${reach} options=${REACHES.map((each) => [each, `± ${each}`])} onChange=${(value) => setReach(Number(value))} />
      <button type="button" onClick=${() => request.send({})}>Decode the grid</button>
    </div>
    <${Problem} text=${request.problem} />
    <div class="grid" onClick=${go}>
      ${request.answer && html`<${Picture} picture=${request.answer.picture} large=${true}
        name=${`${request.answer.side} × ${request.answer.side} decoded codes`} />`}
    </div>
  <//>`;
}

// Latents from the top left on, row by row.
function gridNodes(space, latent, axes, side, reach) {
  const steps = Array.from({ length: side }, (_, index) => ((2 * index) / (side - 1) - 1) * reach);
  return steps.toReversed().flatMap((up) =>
    steps.map((across) =>
      space.moved(latent, {
        [axes[1]]: up * (space.deviations[axes[1]] || 1),
        [axes[0]]: across * (space.deviations[axes[0]] || 1),
      }),
    ),
  );
}
