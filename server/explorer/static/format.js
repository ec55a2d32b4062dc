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
