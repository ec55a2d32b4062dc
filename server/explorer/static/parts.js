// Small components that every view uses.

import { paint } from "./images.js";
import { html, useId, useLayoutEffect, useRef } from "./preact.js";

export function Section({ title, about, children, wide = false }) {
  const id = useId();
  return html`<section class=${wide ? "wide" : ""} aria-labelledby=${id}>
    <h2 id=${id}>${title}</h2>
    ${about && html`<p class="about">${about}</p>`}
    ${children}
  </section>`;
}

// A picture on a canvas; where there is none yet, an empty frame.
export function Picture({ picture, name, large = false }) {
  const canvas = useRef(null);
  useLayoutEffect(() => {
    if (picture) paint(canvas.current, picture);
  }, [picture]);
  return html`<figure class=${large ? "large" : ""}>
    <canvas ref=${canvas} role="img" aria-label=${picture ? name : `${name}: none yet`} width="1" height="1"></canvas>
    <figcaption>${name}</figcaption>
  </figure>`;
}

export function Slider({ name, value, low, high, step = "any", text, onInput, onReset }) {
  const id = useId();
  return html`<div class="slider">
    <label for=${id}>${name}</label>
    <input id=${id} type="range" min=${low} max=${high} step=${step} value=${value}
      aria-valuetext=${text} onInput=${(event) => onInput(event.target.valueAsNumber)} onDblClick=${onReset} />
    <span class="value" aria-hidden="true">${text}</span>
  </div>`;
}

export function Field({ name, type = "number", value, onInput, onChange, ...rest }) {
  const id = useId();
  return html`<div class="field">
    <label for=${id}>${name}</label>
    <input id=${id} type=${type} value=${value} onInput=${(event) => onInput?.(event.target.value)}
      onChange=${(event) => onChange?.(event.target.value)} ...${rest} />
  </div>`;
}

export function Choice({ name, value, options, onChange }) {
  const id = useId();
  return html`<div class="field">
    <label for=${id}>${name}</label>
    <select id=${id} value=${value} onChange=${(event) => onChange(event.target.value)}>
      ${options.map(([key, text]) => html`<option key=${key} value=${key} selected=${String(key) === String(value)}>${text}</option>`)}
    </select>
  </div>`;
}

// One sentence, read out when it appears.
export function Problem({ text }) {
  return html`<p class="problem" role="alert" hidden=${!text}>${text}</p>`;
}
