// The map on its canvas. Points are drawn once into a layer; a frame of a drag copies it and adds the cross.

import { colourOf, themed } from "./palette.js";

const POINT_RADIUS = 2.6;
const FADED = 0.12;

export class MapDrawing {
  #canvas;
  #layer = document.createElement("canvas");
  #scene = null;

  constructor(canvas) {
    this.#canvas = canvas;
  }

  // Points, axes [x, y], ranges, picked class or null: drawn into the layer.
  setScene(scene) {
    this.#scene = scene;
    this.#drawLayer();
  }

  // Adapt to the size on the screen; true where it has changed.
  fit() {
    const scale = globalThis.devicePixelRatio || 1;
    const side = Math.round(this.#canvas.clientWidth * scale);
    if (!side || side === this.#canvas.width) return false;
    this.#canvas.width = this.#canvas.height = side;
    this.#drawLayer();
    return true;
  }

  // Copy the layer; mark `point` with a cross, and others [{ x, y, name }] with a ring.
  frame(point, marks) {
    const context = this.#canvas.getContext("2d");
    context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    context.drawImage(this.#layer, 0, 0);
    const ink = themed(this.#canvas, "--ink");
    for (const mark of marks) this.#ring(context, mark, ink);
    if (point) this.#cross(context, point, ink);
  }

  // Pixels of the page to coordinates along the two axes.
  toCoordinates(x, y) {
    const { width, height } = this.#canvas.getBoundingClientRect();
    const [across, up] = this.#scene.ranges;
    return [
      across[0] + (x / width) * (across[1] - across[0]),
      up[1] - (y / height) * (up[1] - up[0]),
    ];
  }

  #toPixels(x, y) {
    const [across, up] = this.#scene.ranges;
    const side = this.#canvas.width;
    return [((x - across[0]) / (across[1] - across[0])) * side, ((up[1] - y) / (up[1] - up[0])) * side];
  }

  #drawLayer() {
    const side = this.#canvas.width;
    this.#layer.width = this.#layer.height = side;
    if (!this.#scene || !side) return;
    const context = this.#layer.getContext("2d");
    this.#drawAxes(context, side);
    const { points, axes, picked } = this.#scene;
    const radius = POINT_RADIUS * (side / 560);
    const plain = themed(this.#canvas, "--accent");
    points.coordinates.forEach((row, index) => {
      const label = points.labels[index];
      const [x, y] = this.#toPixels(row[axes[0]], row[axes[1]]);
      context.globalAlpha = picked === null || picked === label ? 0.85 : FADED;
      context.fillStyle = label === undefined ? plain : colourOf(label);
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fill();
    });
    context.globalAlpha = 1;
  }

  #drawAxes(context, side) {
    const [x, y] = this.#toPixels(0, 0);
    context.strokeStyle = themed(this.#canvas, "--line");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(Math.round(x) + 0.5, 0);
    context.lineTo(Math.round(x) + 0.5, side);
    context.moveTo(0, Math.round(y) + 0.5);
    context.lineTo(side, Math.round(y) + 0.5);
    context.stroke();
  }

  #cross(context, point, ink) {
    const [x, y] = this.#toPixels(...point);
    const arm = this.#canvas.width / 40;
    context.strokeStyle = ink;
    context.lineWidth = Math.max(2, this.#canvas.width / 280);
    context.beginPath();
    context.moveTo(x - arm, y);
    context.lineTo(x + arm, y);
    context.moveTo(x, y - arm);
    context.lineTo(x, y + arm);
    context.stroke();
  }

  #ring(context, mark, ink) {
    const [x, y] = this.#toPixels(mark.x, mark.y);
    const side = this.#canvas.width;
    context.strokeStyle = context.fillStyle = ink;
    context.lineWidth = Math.max(2, side / 280);
    context.beginPath();
    context.arc(x, y, side / 60, 0, 2 * Math.PI);
    context.stroke();
    context.font = `600 ${Math.round(side / 34)}px system-ui, sans-serif`;
    context.fillText(mark.name, x + side / 45, y - side / 70);
  }
}

// The class of the point next to a place, or undefined.
export function nearestLabel(points, axes, place) {
  let best = Infinity;
  let label;
  points.coordinates.forEach((row, index) => {
    const distance = (row[axes[0]] - place[0]) ** 2 + (row[axes[1]] - place[1]) ** 2;
    if (distance < best) {
      best = distance;
      label = points.labels[index];
    }
  });
  return label;
}
