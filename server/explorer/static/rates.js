// From counters to what happens now: rates, quantiles and shares over the last polls, and alarms in sentences.

import { asNumber, asShare } from "./format.js";

// Two minutes of polls are kept; rates are over the last twenty seconds.
const WINDOW_S = 20;
const LEAST_ROWS = 100;
const FAILURES = /^(INTERNAL|UNKNOWN|DATA_LOSS|UNAVAILABLE)$/;

// Rows of a table, one for each model and method that was called within the window.
export function calls(history) {
  const [before, now] = ends(history);
  if (!now) return [];
  const seconds = Math.max(now.at - before.at, 1e-3);
  const counts = increases(before, now, "autoencoder_requests_total", ["model", "method"]);
  const buckets = increases(before, now, "autoencoder_request_duration_seconds_bucket", ["model", "method", "le"]);
  return [...counts]
    .filter(([, count]) => count > 0)
    .map(([key, count]) => {
      const of = [...buckets].filter(([name]) => name.startsWith(`${key}\n`)).map(([name, value]) => [bound(name), value]);
      const [model, method] = key.split("\n");
      return { key, model, method, rate: count / seconds, median: quantile(0.5, of), p99: quantile(0.99, of) };
    });
}

// Requests a second between each two polls.
export function series(history) {
  return history.slice(1).map((now, index) => {
    const before = history[index];
    const count = sum(increases(before, now, "autoencoder_requests_total", []));
    return count / Math.max(now.at - before.at, 1e-3);
  });
}

export function queueRows(history) {
  return sum(totals(history.at(-1), "autoencoder_queue_rows", ["model"]));
}

// Shares of strange inputs since the server's start, one row a version and signal.
export function drift(history) {
  const now = history.at(-1);
  if (!now) return [];
  const limits = totals(now, "autoencoder_out_of_distribution_alarm_ratio", ["model", "version"]);
  const counted = {
    reconstruction: totals(now, "autoencoder_reconstruction_error_count", ["model", "version"]),
    latent: totals(now, "autoencoder_latent_distance_count", ["model", "version"]),
  };
  const found = Object.entries(counted).flatMap(([signal, counts]) =>
    [...counts].map(([key, rows]) => {
      const strange = matching(now, "autoencoder_out_of_distribution_total", key, { signal });
      return row(key, signal === "latent" ? "latent distance" : "reconstruction error", rows, strange, limits.get(key));
    }),
  );
  return [...found, ...detections(now)];
}

function detections(now) {
  const upper = totals(now, "autoencoder_false_alarm_rate_upper", ["model", "version"]);
  return [...totals(now, "autoencoder_detections_total", ["model", "version"])].map(([key, images]) => {
    const alarms = matching(now, "autoencoder_detections_total", key, { result: "anomalous" });
    return row(key, "anomalous images", images, alarms, upper.get(key));
  });
}

function row(key, signal, rows, strange, limit) {
  const [model, version] = key.split("\n");
  const share = strange / rows;
  return { key: key + signal, model, version, signal, rows, share, limit, alarm: rows >= LEAST_ROWS && share > limit };
}

// What an operator should look at, in sentences.
export function alarms(history) {
  const now = history.at(-1);
  if (!now) return [];
  const [before] = ends(history);
  const found = now.ready ? [] : [`The server is not ready: ${now.reason}.`];
  for (const each of drift(history).filter((one) => one.alarm)) {
    found.push(`${each.model}: ${asShare(each.share)} of ${each.rows} rows are strange by ${each.signal}, expected at most ${asShare(each.limit)}; compare the inputs with the training data.`);
  }
  const byCode = increases(before, now, "autoencoder_requests_total", ["code"]);
  const failed = sum(new Map([...byCode].filter(([code]) => FAILURES.test(code))));
  if (failed > 0) found.push(`${failed} requests failed just now; look into the server's log.`);
  if (byCode.get("RESOURCE_EXHAUSTED") > 0) found.push(`${byCode.get("RESOURCE_EXHAUSTED")} requests were refused just now because the server is too busy; send fewer, or add a server.`);
  const limit = sum(totals(now, "autoencoder_queue_limit_rows", []));
  const waiting = queueRows(history);
  if (limit && waiting > 0.5 * limit) found.push(`${asNumber(waiting)} rows wait in queues that hold ${asNumber(limit)}.`);
  return found;
}

function ends(history) {
  const now = history.at(-1);
  const before = history.find((each) => now.at - each.at <= WINDOW_S);
  return [before, now];
}

// Sums of a metric's samples by some of their labels.
function totals(poll, name, labels) {
  const found = new Map();
  for (const sample of poll?.samples ?? []) {
    if (sample.name !== name) continue;
    const key = labels.map((label) => sample.labels[label]).join("\n");
    found.set(key, (found.get(key) ?? 0) + sample.value);
  }
  return found;
}

function matching(poll, name, key, labels) {
  return poll.samples
    .filter((sample) => sample.name === name && `${sample.labels.model}\n${sample.labels.version}` === key)
    .filter((sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value))
    .reduce((total, sample) => total + sample.value, 0);
}

// A counter that has fallen has begun again, at 0.
function increases(before, now, name, labels) {
  const old = totals(before, name, labels);
  return new Map(
    [...totals(now, name, labels)].map(([key, value]) => {
      const known = old.get(key) ?? 0;
      return [key, value >= known ? value - known : value];
    }),
  );
}

function sum(counts) {
  return [...counts.values()].reduce((total, value) => total + value, 0);
}

function bound(name) {
  const text = name.split("\n").at(-1);
  return text === "+Inf" ? Infinity : Number(text);
}

// Of cumulative buckets [bound, count], as Prometheus interpolates.
function quantile(share, buckets) {
  const sorted = buckets.sort((one, other) => one[0] - other[0]);
  const total = sorted.at(-1)?.[1] ?? 0;
  if (!total) return NaN;
  const wanted = share * total;
  const index = sorted.findIndex(([, count]) => count >= wanted);
  const [low, below] = index ? sorted[index - 1] : [0, 0];
  const [high, count] = sorted[index];
  return high === Infinity ? low : low + ((high - low) * (wanted - below)) / Math.max(count - below, 1e-9);
}
