// The server as it works: requests, latency, queue, drift, alarms.

import { asMilliseconds, asNumber, asShare } from "../format.js";
import { Section } from "../parts.js";
import { html } from "../preact.js";
import { alarms, calls, drift, queueRows, series } from "../rates.js";

const WIDTH = 300;
const HEIGHT = 60;

export function Live({ history }) {
  if (!history.length) return null;
  const found = alarms(history);
  return html`<${Section} title="The server now" wide=${true} about="Requests of all callers within twenty seconds; shares since the server's start.">
    <div role="status" aria-label="Alarms">
      ${found.length ? found.map((text) => html`<p key=${text} class="problem">${text}</p>`) : html`<p>No alarm.</p>`}
    </div>
    <div class="columns">
      <${Rate} history=${history} />
      <p>${asNumber(queueRows(history))} rows wait.</p>
    </div>
    <${Table} name="Requests" head=${["model", "method", "a second", "median", "99 %"]} empty="No request within twenty seconds."
      body=${calls(history).map((each) => [each.key, each.model || "–", each.method, asNumber(each.rate, 2), asMilliseconds(each.median), asMilliseconds(each.p99)])} />
    <${Table} name="Drift and anomalies" head=${["model", "signal", "rows", "share beyond", "alarm above"]} empty="No row compared yet."
      body=${drift(history).map((each) => [each.key, `${each.model} ${each.version}`, each.signal, asNumber(each.rows, 6), asShare(each.share), asShare(each.limit)])} />
  <//>`;
}

function Rate({ history }) {
  const rates = series(history);
  const most = Math.max(1, ...rates);
  const points = rates.map((rate, index) => `${(index * WIDTH) / Math.max(rates.length - 1, 1)},${HEIGHT - (rate / most) * (HEIGHT - 2)}`);
  const now = rates.length ? asNumber(rates.at(-1), 2) : "0";
  return html`<figure class="rate">
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label=${`Requests a second over two minutes: now ${now}, at most ${asNumber(most, 2)}`}>
      <polyline points=${points.join(" ")} />
    </svg>
    <figcaption>${now} requests a second</figcaption>
  </figure>`;
}

function Table({ name, head, body, empty }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${name}>
    <table>
      <caption>${name}</caption>
      <thead><tr>${head.map((text) => html`<th scope="col" key=${text}>${text}</th>`)}</tr></thead>
      <tbody>
        ${body.length
          ? body.map(([key, first, ...rest]) => html`<tr key=${key}><th scope="row">${first}</th>${rest.map((text, index) => html`<td key=${index}>${text}</td>`)}</tr>`)
          : html`<tr><td colspan=${head.length}>${empty}</td></tr>`}
      </tbody>
    </table>
  </div>`;
}
