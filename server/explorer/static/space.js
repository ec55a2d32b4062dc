// A model's latent space: the axes one moves along, and the points that show where images lie.

import { asNumber } from "./format.js";
import { numbers, rows } from "./tensors.js";

const SPAN_OF_UNKNOWN = 3;
const SAMPLED_POINTS = 500;

// [D] or [h, w, c], 0 where an axis is free; [] without a code. Older bundles state vectors by their size alone.
export function latentShape(model) {
  if (model.latent_shape.length) return model.latent_shape;
  return model.latent_size ? [model.latent_size] : [];
}

// What a model's code is to this page: "vector", or "none" or "free" where there is no single vector to move.
export function codeKind(model) {
  const shape = latentShape(model);
  if (!model.methods.includes("Decode") || !shape.length) return "none";
  return shape.some((axis) => axis === 0) ? "free" : "vector";
}

export class Space {
  // `shape` is latent_shape, `axes` those of the reference document or undefined.
  constructor(shape, axes) {
    this.shape = shape;
    this.size = shape.reduce((product, axis) => product * axis, 1);
    this.known = axes !== undefined;
    if (this.known) this.#take(axes);
    else this.#assume();
  }

  #take(axes) {
    this.mean = Float64Array.from(numbers(axes.mean));
    this.components = rows(axes.components);
    this.deviations = axes.deviations;
    this.explained = axes.explained;
    // A plane needs no turning: its own axes say more than those of the spread.
    this.whole = this.size === 2;
    if (!this.whole) return;
    const variances = [0, 1].map((axis) =>
      this.components.reduce((sum, component, index) => sum + (component[axis] * this.deviations[index]) ** 2, 0),
    );
    const total = variances[0] + variances[1] || 1;
    this.deviations = variances.map(Math.sqrt);
    this.explained = variances.map((variance) => variance / total);
    this.components = units(2, 2);
  }

  // Without statistics: the first numbers of the vector, of unknown spread.
  #assume() {
    const count = Math.min(this.size, 16);
    this.whole = true;
    this.mean = new Float64Array(this.size);
    this.components = units(count, this.size);
    this.deviations = new Array(count).fill(1);
    this.explained = new Array(count).fill(0);
  }

  get count() {
    return this.components.length;
  }

  name(axis) {
    return this.whole ? `z${axis + 1}` : `component ${axis + 1}`;
  }

  // A sentence about what the map of two axes leaves out.
  describe(x, y) {
    if (!this.known) return `The bundle says nothing of its latents: these are 2 of ${this.size} numbers, whose spread is unknown.`;
    if (this.size === 1) return "The latent space has one dimension: the map shows it along both axes.";
    if (this.whole) return "The latent space has two dimensions: the map shows all of it.";
    const share = asNumber(100 * (this.explained[x] + this.explained[y]), 2);
    return `Components ${x + 1} and ${y + 1} of a latent space of ${this.size} dimensions, with ${share} % of its variance.`;
  }

  // Coordinates of a latent along every axis.
  coordinates(latent) {
    return this.components.map((component) =>
      component.reduce((sum, weight, index) => sum + weight * (latent[index] - this.mean[index]), 0),
    );
  }

  // A latent moved so that it has these coordinates, { axis: value }; what the axes do not span stays.
  moved(latent, wanted) {
    const now = this.coordinates(latent);
    const moved = Float64Array.from(latent);
    for (const [axis, value] of Object.entries(wanted)) {
      const step = value - now[axis];
      this.components[axis].forEach((weight, index) => {
        moved[index] += step * weight;
      });
    }
    return moved;
  }
}

// Points of the reference document: coordinates along the axes, class of each, class names.
export function referencePoints(space, document) {
  const values = rows(document.values);
  const inComponents = document.coordinates === "components";
  return {
    coordinates: values.map((row) => (inComponents ? [...row] : space.coordinates(row))),
    labels: document.labels,
    names: document.label_names,
    source: "held-out images",
  };
}

// Without reference points: samples of the model, or none.
export async function sampledPoints(api, space, model) {
  const empty = { coordinates: [], labels: [], names: [], source: "" };
  if (!model.methods.includes("Sample")) return empty;
  const answer = await api.call(
    "Sample",
    {
      model_name: model.name,
      model_version: model.version,
      count: SAMPLED_POINTS,
      seed: "1",
      include_latents: true,
      image_format: "IMAGE_FORMAT_NONE",
    },
    { quiet: true },
  );
  return { ...empty, coordinates: rows(answer.latents).map((row) => space.coordinates(row)), source: "samples" };
}

// Ranges [low, high] of two axes that hold all points and a margin.
export function bounds(space, points, axes) {
  return axes.map((axis) => {
    const reach = SPAN_OF_UNKNOWN * (space.deviations[axis] || 1);
    const values = points.coordinates.map((row) => row[axis]);
    const low = values.reduce((least, value) => Math.min(least, value), -reach);
    const high = values.reduce((most, value) => Math.max(most, value), reach);
    const margin = 0.05 * (high - low);
    return [low - margin, high + margin];
  });
}

function units(count, size) {
  return Array.from({ length: count }, (_, axis) => Float64Array.from({ length: size }, (_, index) => Number(index === axis)));
}
