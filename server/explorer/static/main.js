// Entry: puts the page into its document.

import { Api } from "./api.js";
import { App } from "./app.js";
import { html, render } from "./preact.js";

const root = document.getElementById("explorer");
root.replaceChildren();
// The page lies at explorer/, the routes beside it, whatever prefix a proxy puts before both.
render(html`<${App} api=${new Api(new URL("../", document.baseURI))} />`, root);
