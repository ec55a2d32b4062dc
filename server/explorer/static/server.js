// What the page knows of its server: models and metrics, asked for every two seconds while the page is seen.

import { sentence } from "./api.js";
import { useEffect, useRef, useState } from "./preact.js";

const INTERVAL_MS = 2000;
// Two minutes.
const KEPT = 60;

export function useServer(api) {
  const [server, setServer] = useState({ models: null, history: [], problem: "", needsToken: false });
  const poll = useRef(null);
  useEffect(() => {
    let timer = 0;
    let ended = false;
    let known = "";
    let running = false;

    async function look() {
      clearTimeout(timer);
      if (running) return;
      running = true;
      try {
        const metrics = await api.metrics();
        const serving = signature(metrics);
        const models = serving === known ? null : await loadedModels(api);
        known = serving;
        if (!ended) setServer((old) => seen(old, metrics, models));
      } catch (error) {
        known = "";
        if (!ended) setServer((old) => ({ ...old, problem: sentence(error), needsToken: Boolean(error.needsToken) }));
      }
      running = false;
      if (!ended && !document.hidden) timer = setTimeout(look, INTERVAL_MS);
    }

    poll.current = look;
    document.addEventListener("visibilitychange", look);
    void look();
    return () => {
      ended = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, [api]);
  return { ...server, refresh: () => poll.current?.() };
}

function seen(old, metrics, models) {
  const history = [...old.history, { at: performance.now() / 1000, ...metrics }].slice(-KEPT);
  return { models: models ?? old.models, history, problem: "", needsToken: false };
}

// Which versions serve; "…" for a server that is not ready, so that the models are asked for once it is.
function signature(metrics) {
  const serving = metrics.samples
    .filter((sample) => sample.name === "autoencoder_model_ready" && sample.value === 1)
    .map((sample) => `${sample.labels.model}/${sample.labels.version}`);
  return `${metrics.ready}:${serving.sort().join()}`;
}

async function loadedModels(api) {
  const answer = await api.call("ListModels", {}, { quiet: true });
  return answer.models;
}

export function modelKey(model) {
  return `${model.name}/${model.version}`;
}
