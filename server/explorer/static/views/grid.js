// A plane of the latent space, decoded at the nodes of a grid, as one picture.

import { mosaic, pictures } from "../images.js";
import { Choice, Picture, Problem, Section } from "../parts.js";
import { html, useRef, useState } from "../preact.js";
import { to, useRequest } from "../requests.js";
import { tensor } from "../tensors.js";

const SIDES = [5, 9, 15, 21];
const REACHES = [1, 2, 3];
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function Grid({ api, model, space, place }) {
  const [side, setSide] = useState(9);
  const [reach, setReach] = useState(2);
  const [axes, setAxes] = useState([0, Math.min(1, space.count - 1)]);
  // The column and row that one went to last; at first the middle, which is the place itself.
  const at = useRef([0, 0]);
  const request = useRequest(api, async () => {
    const nodes = gridNodes(space, place.latent, axes, side, reach);
    const codes = new Float32Array(side * side * space.size);
    nodes.forEach((node, index) => codes.set(node, index * space.size));
    const answer = await api.call("Decode", {
      ...to(model),
      latents: tensor(codes, [nodes.length, ...space.shape]),
      image_format: "IMAGE_FORMAT_UINT8",
    });
    at.current = [(side - 1) / 2, (side - 1) / 2];
    return { picture: mosaic(pictures(answer.images), side), nodes, side };
  });
  const options = Array.from({ length: space.count }, (_, axis) => [axis, space.name(axis)]);

  // To the picture in a column and row, as far as the grid goes.
  function go(column, row) {
    const { nodes, side: sides } = request.answer;
    const inside = (value) => Math.min(Math.max(value, 0), sides - 1);
    at.current = [inside(column), inside(row)];
    place.go(nodes[at.current[1] * sides + at.current[0]]);
  }

  function onClick(event) {
    if (event.target.tagName !== "CANVAS") return;
    const box = event.target.getBoundingClientRect();
    const { side: sides } = request.answer;
    go(Math.floor(((event.clientX - box.left) / box.width) * sides), Math.floor(((event.clientY - box.top) / box.height) * sides));
  }

  function onKey(event) {
    const direction = KEYS[event.key];
    if (!direction) return;
    event.preventDefault();
    go(at.current[0] + direction[0], at.current[1] + direction[1]);
  }

  return html`<${Section} title="Grid of decoded codes" about="The plane of two axes through the mean, or through the place on the map. A click on a picture, or an arrow key, goes there.">
    <div class="row">
      <${Choice} name="Across" value=${axes[0]} options=${options} onChange=${(axis) => setAxes([Number(axis), axes[1]])} />
      <${Choice} name="Up" value=${axes[1]} options=${options} onChange=${(axis) => setAxes([axes[0], Number(axis)])} />
      <${Choice} name="Pictures a side" value=${side} options=${SIDES.map((each) => [each, each])} onChange=${(value) => setSide(Number(value))} />
      <${Choice} name="Standard deviations" value=${reach} options=${REACHES.map((each) => [each, `± ${each}`])} onChange=${(value) => setReach(Number(value))} />
      <button type="button" onClick=${() => request.send({})}>Decode the grid</button>
    </div>
    <${Problem} text=${request.problem} />
    ${request.answer && html`<div class="grid" tabindex="0" role="application" onClick=${onClick} onKeyDown=${onKey}
        aria-label="Grid of pictures. Go to one with the arrow keys, or click on it.">
      <${Picture} picture=${request.answer.picture} large=${true}
        name=${`${request.answer.side} × ${request.answer.side} decoded codes`} />
    </div>`}
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
