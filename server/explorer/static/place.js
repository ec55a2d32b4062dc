// The place in the latent space that the page shows. Its listeners act at once, without a render of the whole page.

import { useEffect, useState } from "./preact.js";

export class Place {
  #listeners = new Set();

  constructor(latent) {
    this.latent = latent;
    this.shifts = new Map();
  }

  // Go to a latent.
  go(latent) {
    this.latent = Float64Array.from(latent);
    this.#tell();
  }

  // Go to a latent, and along no attribute.
  reset(latent) {
    this.shifts = new Map();
    this.go(latent);
  }

  // Move along an attribute by standard deviations.
  shift(attribute, amount) {
    this.shifts = new Map(this.shifts).set(attribute, amount);
    this.#tell();
  }

  onMove(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tell() {
    const since = performance.now();
    for (const listener of this.#listeners) listener(since);
  }
}

// Render a component once a frame while the place moves.
export function usePlace(place) {
  const [, setMoves] = useState(0);
  useEffect(() => {
    let frame = 0;
    const end = place.onMove(() => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        setMoves((moves) => moves + 1);
      });
    });
    return () => {
      cancelAnimationFrame(frame);
      end();
    };
  }, [place]);
}
