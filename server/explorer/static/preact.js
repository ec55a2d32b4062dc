// The vendored library, and what it lacks.

import { useState } from "./vendor/htm-preact.js";

export * from "./vendor/htm-preact.js";

let ids = 0;

// An id for a label and its control, the same in every render of a component.
export function useId() {
  return useState(() => {
    ids += 1;
    return `id${ids}`;
  })[0];
}
