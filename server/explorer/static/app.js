// The page: chooses a model, and lets each view show what that model can do.

import { sentence } from "./api.js";
import { html, useEffect, useMemo, useState } from "./preact.js";
import { Choice, Field, Problem } from "./parts.js";
import { Place } from "./place.js";
import { modelKey, useServer } from "./server.js";
import { Space, bounds, codeKind, latentShape, referencePoints, sampledPoints } from "./space.js";
import { About } from "./views/about.js";
import { Explore } from "./views/explore.js";
import { Grid } from "./views/grid.js";
import { LastCall } from "./views/call.js";
import { Live } from "./views/live.js";
import { OwnPicture } from "./views/picture.js";
import { Sample } from "./views/sample.js";
import { Walk } from "./views/walk.js";

export function App({ api }) {
  const server = useServer(api);
  const [chosen, setChosen] = useState("");
  const models = server.models ?? [];
  const model = models.find((each) => modelKey(each) === chosen) ?? newest(models);
  return html`
    <a class="skip" href="#content">Skip to the model</a>
    <header>
      <h1>Hourglass explorer</h1>
      <${ModelChoice} models=${models} model=${model} onChoose=${setChosen} />
      <${Token} api=${api} wanted=${server.needsToken} onChange=${server.refresh} />
      <${Problem} text=${server.problem} />
    </header>
    <main id="content" tabindex="-1">
      ${model
        ? html`<${Views} key=${modelKey(model)} api=${api} model=${model} />`
        : html`<${Nothing} server=${server} />`}
      <${Live} history=${server.history} />
      <${LastCall} api=${api} />
    </main>
  `;
}

function newest(models) {
  // The list is by name and then by version.
  return models.filter((each) => each.name === models[0].name).at(-1);
}

function ModelChoice({ models, model, onChoose }) {
  if (!model) return null;
  const names = [...new Set(models.map((each) => each.name))];
  const versions = models.filter((each) => each.name === model.name);
  return html`
    <${Choice} name="Model" value=${model.name} options=${names.map((name) => [name, name])}
      onChange=${(name) => onChoose(modelKey(models.findLast((each) => each.name === name)))} />
    <${Choice} name="Version" value=${modelKey(model)} options=${versions.map((each) => [modelKey(each), each.version])}
      onChange=${onChoose} />
  `;
}

function Token({ api, wanted, onChange }) {
  const [open, setOpen] = useState(false);
  if (!wanted && !open) return null;
  function take(text) {
    setOpen(true);
    api.token = text;
    onChange();
  }
  return html`<${Field} name="Access token" type="password" autocomplete="off" onChange=${take} />`;
}

// Why there is no model, and what to do.
function Nothing({ server }) {
  const last = server.history.at(-1);
  if (server.problem) return null;
  if (!last || server.models === null) return html`<p role="status">Asking the server for its models …</p>`;
  return html`<p role="status">
    This server has no model to show: ${last.reason}. Export one into its repository with${" "}
    <code>python -m export RUN --repository REPOSITORY</code>; it appears here by itself.
  </p>`;
}

function Views({ api, model }) {
  const { space, place, points, ranges, problem } = useSpace(api, model);
  const [marks, setMarks] = useState([]);
  const [picture, setPicture] = useState(null);
  const serves = (method) => model.methods.includes(method);
  const shared = { api, model, space, place, picture };
  return html`
    <${About} model=${model} />
    <${Problem} text=${problem} />
    ${codeKind(model) !== "vector" && html`<p class="wide">${withoutMap(model)}</p>`}
    ${space && html`<${Explore} ...${shared} points=${points} ranges=${ranges} marks=${marks} />`}
    ${space && html`<${Grid} ...${shared} />`}
    ${serves("Sample") && html`<${Sample} ...${shared} onPicture=${setPicture} />`}
    <${OwnPicture} ...${shared} onPicture=${setPicture} onMarks=${setMarks} />
    ${serves("Interpolate") && html`<${Walk} ...${shared} />`}
  `;
}

function withoutMap(model) {
  return codeKind(model) === "free"
    ? "This model has no map: its code grows with the picture, so that there is no single latent vector to move."
    : "This model has no map: it has no code to decode.";
}

// Axes and points of a model's latent space; nulls until they have come.
function useSpace(api, model) {
  const [found, setFound] = useState({ space: null, place: null, points: null, problem: "" });
  const [tries, setTries] = useState(0);
  useEffect(() => {
    let ended = false;
    let forget = () => {};
    if (codeKind(model) !== "vector") return undefined;
    load(api, model).then(
      (loaded) => ended || setFound(loaded),
      (error) => {
        if (ended) return;
        setFound((old) => ({ ...old, problem: sentence(error) }));
        if (error.passing) forget = api.onceAnswering(() => setTries(tries + 1));
      },
    );
    return () => {
      ended = true;
      forget();
    };
  }, [api, model.name, model.version, tries]);
  const ranges = useMemo(
    () => (found.space ? (axes) => bounds(found.space, found.points, axes) : null),
    [found],
  );
  return { ...found, ranges };
}

async function load(api, model) {
  const document = await api.reference(model.name, model.version);
  const space = new Space(latentShape(model), document.axes);
  const points = document.points
    ? referencePoints(space, document.points)
    : await sampledPoints(api, space, model);
  return { space, place: new Place(space.mean), points, problem: "" };
}
