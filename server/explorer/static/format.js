// Numbers for people.

export function asNumber(value, digits = 3) {
  if (!Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3)) return value.toExponential(digits - 1);
  return Number(value.toPrecision(digits)).toString();
}

export function asMilliseconds(seconds) {
  return Number.isFinite(seconds) ? `${asNumber(1000 * seconds, 2)} ms` : "–";
}

export function asShare(share) {
  return Number.isFinite(share) ? `${asNumber(100 * share, 2)} %` : "–";
}

// Of a slider or a place: as precise as one can set it.
export function asPosition(value) {
  return (Math.round(100 * value) / 100 || 0).toFixed(2);
}
