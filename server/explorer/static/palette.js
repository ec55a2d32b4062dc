// Colours of classes, apart in hue and lightness, legible on light and dark alike (after Okabe and Ito 2008).

const COLOURS = [
  "#e69f00",
  "#3d9fdc",
  "#00916a",
  "#b59f00",
  "#2e6fd6",
  "#e05a00",
  "#c8609a",
  "#7a7f87",
  "#8a5cd6",
  "#9c6b3f",
];

export function colourOf(label) {
  return COLOURS[label % COLOURS.length];
}

// A colour of the page's theme, which follows dark and light.
export function themed(element, name) {
  return getComputedStyle(element).getPropertyValue(name).trim();
}
