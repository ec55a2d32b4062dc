// The map: a canvas that follows pointer and arrow keys, and the legend of its classes.

import { MapDrawing } from "../map.js";
import { colourOf } from "../palette.js";
import { html, useEffect, useLayoutEffect, useRef } from "../preact.js";

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
// Of the range on the map; with Shift ten times as far.
const STEP = 0.01;
const MOST_CLASSES = 60;

export function LatentMap({ scene, space, marks, coordinates, onMove }) {
  const canvas = useRef(null);
  const drawing = useRef(null);
  const { axes, ranges } = scene;
  const point = axes.map((axis) => coordinates[axis]);
  const frame = useRef(() => {});
  frame.current = () =>
    drawing.current.frame(point, marks.map((mark) => ({ name: mark.name, x: mark.coordinates[axes[0]], y: mark.coordinates[axes[1]] })));

  useLayoutEffect(() => {
    drawing.current ??= new MapDrawing(canvas.current);
    drawing.current.fit();
    drawing.current.setScene(scene);
  }, [scene]);
  useLayoutEffect(() => frame.current());
  useRedraw(canvas, () => {
    drawing.current.setScene(scene);
    frame.current();
  }, () => drawing.current.fit() && frame.current());

  function follow(event) {
    const box = canvas.current.getBoundingClientRect();
    const inside = (value, size) => Math.min(Math.max(value, 0), size);
    onMove(drawing.current.toCoordinates(inside(event.clientX - box.left, box.width), inside(event.clientY - box.top, box.height)));
  }

  function onKey(event) {
    const direction = KEYS[event.key];
    if (!direction) return;
    event.preventDefault();
    const step = STEP * (event.shiftKey ? 10 : 1);
    onMove(point.map((value, axis) => value + direction[axis] * step * (ranges[axis][1] - ranges[axis][0])));
  }

  return html`<canvas class="map" ref=${canvas} width="560" height="560" tabindex="0" role="application"
    aria-label=${`Map of the latent space, ${axes.map((axis) => space.name(axis)).join(" and ")}. Drag, or move with the arrow keys.`}
    onPointerDown=${(event) => { event.currentTarget.setPointerCapture(event.pointerId); follow(event); }}
    onPointerMove=${(event) => event.buttons && follow(event)} onKeyDown=${onKey}></canvas>`;
}

// Draw again when the theme changes, and when the size does.
function useRedraw(canvas, onTheme, onSize) {
  const current = useRef({});
  current.current = { onTheme, onSize };
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const themeChanged = () => current.current.onTheme();
    const observer = new ResizeObserver(() => current.current.onSize());
    dark.addEventListener("change", themeChanged);
    observer.observe(canvas.current);
    return () => {
      dark.removeEventListener("change", themeChanged);
      observer.disconnect();
    };
  }, []);
}

// Classes by colour; pressing one fades the others.
export function Legend({ points, picked, onPick }) {
  if (!points.names.length) return null;
  const more = points.names.length - MOST_CLASSES;
  return html`<ul class="legend" aria-label="Classes">
    ${points.names.slice(0, MOST_CLASSES).map((name, label) => html`<li key=${label}>
      <button type="button" aria-pressed=${picked === label} onClick=${() => onPick(picked === label ? null : label)}>
        <span class="swatch" style=${{ background: colourOf(label) }}></span>${name}
      </button>
    </li>`)}
    ${more > 0 && html`<li>and ${more} more classes</li>`}
  </ul>`;
}
