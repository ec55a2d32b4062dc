// The last call, to be copied.

import { Problem, Section } from "../parts.js";
import { html, useEffect, useState } from "../preact.js";
import { curlCall, pythonCall } from "../snippets.js";

const SHOWN = 600;
const LANGUAGES = [
  ["Python", pythonCall],
  ["curl", curlCall],
];

export function LastCall({ api }) {
  const [call, setCall] = useState(null);
  const [said, setSaid] = useState("");
  const [problem, setProblem] = useState("");
  useEffect(() => {
    let frame = 0;
    // Once a frame is enough, whatever is dragged.
    const end = api.onCall((made) => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => setCall(made));
    });
    return () => {
      cancelAnimationFrame(frame);
      end();
    };
  }, [api]);

  async function copy(name, write) {
    try {
      await navigator.clipboard.writeText(write(api.base, call));
      setSaid(`Copied the ${name} call of ${call.method}.`);
      setProblem("");
    } catch {
      setProblem("The browser does not let this page copy: select the text below, and copy it by hand.");
    }
  }

  return html`<${Section} title="The last call" wide=${true} about="What the page has just asked the server, to do it yourself. Both write the answer's JSON.">
    <div class="row">
      <span>${call ? call.method : "No call yet."}</span>
      ${LANGUAGES.map(([name, write]) => html`<button key=${name} type="button" disabled=${!call} onClick=${() => copy(name, write)}>Copy ${name}</button>`)}
      <span role="status">${said}</span>
    </div>
    <${Problem} text=${problem} />
    ${call && html`<div class="columns">
      ${LANGUAGES.map(([name, write]) => html`<${Code} key=${name} name=${name} write=${() => write(api.base, call)} whole=${Boolean(problem)} />`)}
    </div>`}
  <//>`;
}

// Written only while it is seen: a drag makes many calls.
function Code({ name, write, whole }) {
  const [open, setOpen] = useState(false);
  const text = open ? write() : "";
  const shown = whole || text.length <= SHOWN ? text : `${text.slice(0, SHOWN)} …`;
  return html`<details open=${open || whole} onToggle=${(event) => setOpen(event.target.open)}>
    <summary>${name}</summary>
    <pre tabindex="0" role="region" aria-label=${`${name} call`}>${shown}</pre>
  </details>`;
}
