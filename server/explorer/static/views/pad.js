// A pad to draw on: with the pointer, or with arrow keys while Space is down.

import { html, useLayoutEffect, useRef } from "../preact.js";

const SIDE = 280;
const PEN = 22;
const KEY_STEP = 10;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function Pad({ onDrawn }) {
  const canvas = useRef(null);
  const pen = useRef({ x: SIDE / 2, y: SIDE / 2, down: false });
  useLayoutEffect(clear, []);

  function clear() {
    const context = canvas.current.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, SIDE, SIDE);
    context.strokeStyle = "#fff";
    context.lineWidth = PEN;
    context.lineCap = context.lineJoin = "round";
  }

  function stroke(x, y) {
    const context = canvas.current.getContext("2d");
    context.beginPath();
    context.moveTo(pen.current.x, pen.current.y);
    context.lineTo(x, y);
    context.stroke();
    Object.assign(pen.current, { x, y });
    onDrawn(canvas.current);
  }

  function place(event) {
    const box = canvas.current.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  }

  function press(event) {
    event.currentTarget.setPointerCapture(event.pointerId);
    [pen.current.x, pen.current.y] = place(event);
    stroke(pen.current.x, pen.current.y);
  }

  function onKey(event) {
    const inside = (value) => Math.min(Math.max(value, 0), SIDE);
    if (event.key === " ") {
      pen.current.down = true;
      stroke(pen.current.x, pen.current.y);
    } else if (KEYS[event.key]) {
      const [x, y] = KEYS[event.key];
      const to = [inside(pen.current.x + x * KEY_STEP), inside(pen.current.y + y * KEY_STEP)];
      if (pen.current.down) stroke(...to);
      else [pen.current.x, pen.current.y] = to;
    } else {
      return;
    }
    event.preventDefault();
  }

  return html`<div class="pad">
    <canvas ref=${canvas} width=${SIDE} height=${SIDE} tabindex="0" role="application"
      aria-label="Pad to draw on. Drag; or hold Space and move with the arrow keys."
      onPointerDown=${press} onPointerMove=${(event) => event.buttons && stroke(...place(event))}
      onKeyDown=${onKey} onKeyUp=${(event) => { if (event.key === " ") pen.current.down = false; }}></canvas>
    <button type="button" onClick=${() => { clear(); onDrawn(canvas.current); }}>Clear the pad</button>
  </div>`;
}
