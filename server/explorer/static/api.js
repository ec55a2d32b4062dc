// The server's REST routes: docs/api.md. Errors are sentences that say what to do.

const UNREACHABLE = 0;
const UNAUTHENTICATED = 401;
const UNAVAILABLE = 503;
const PASSING = [UNREACHABLE, UNAUTHENTICATED, UNAVAILABLE];
const NO_ANSWER = "The server does not answer. Start it, or check the connection; this page tries again by itself.";
// What a request header can hold.
const TOKEN = /^[\x21-\x7e]*$/;

export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }

  get needsToken() {
    return this.status === UNAUTHENTICATED;
  }

  // Whether the same call may go well later.
  get passing() {
    return PASSING.includes(this.status);
  }
}

// An error as a sentence for people. Of others than the server's the console shows more.
export function sentence(error) {
  if (error instanceof ApiError) return error.message;
  console.error(error);
  return "The page does not understand the server's answer: reload the page; if that does not help, look into the browser's console.";
}

export class Api {
  // The bearer token is kept here alone: a reload of the page forgets it.
  #token = "";
  #listeners = new Set();
  #waiting = new Set();

  constructor(base) {
    this.base = base;
  }

  set token(text) {
    this.#token = text.trim();
  }

  // Call `listener` with every call that went well; returns what ends that.
  onCall(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  // Call `listener` once, when the server next tells its metrics; returns what ends that.
  onceAnswering(listener) {
    this.#waiting.add(listener);
    return () => this.#waiting.delete(listener);
  }

  // A unary method of autoencoder.v1 in protobuf JSON.
  async call(method, request, { quiet = false } = {}) {
    const path = `v1/${method}`;
    const answer = await this.#send(path, { method: "POST", body: JSON.stringify(request) });
    if (!quiet) {
      for (const listener of this.#listeners) listener({ method, path, request, withToken: this.#token !== "" });
    }
    return answer;
  }

  reference(name, version) {
    return this.#send(`v1/models/${encodeURIComponent(name)}/reference?version=${encodeURIComponent(version)}`);
  }

  async metrics() {
    const found = await this.#send("v1/metrics");
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const listener of waiting) listener();
    return found;
  }

  async #send(path, options = {}) {
    const headers = { "content-type": "application/json" };
    if (!TOKEN.test(this.#token)) {
      throw new ApiError(UNAUTHENTICATED, "The token has characters that no token has: copy it again into “Access token”.");
    }
    if (this.#token) headers.authorization = `Bearer ${this.#token}`;
    let response;
    let body;
    try {
      response = await fetch(new URL(path, this.base), { ...options, headers, credentials: "same-origin", cache: "no-store" });
      body = await response.json();
    } catch {
      // No answer, or one of a proxy, which may ask for a token itself.
      if (response?.status !== UNAUTHENTICATED) throw new ApiError(UNREACHABLE, NO_ANSWER);
    }
    if (!response.ok) throw new ApiError(response.status, refusal(response.status, body?.error));
    return body;
  }
}

function refusal(status, text) {
  if (status === UNAUTHENTICATED) return "The server asks for a bearer token: type yours into “Access token”, and press Enter.";
  const said = String(text || `The server answered ${status}; look into its log.`);
  return said.endsWith(".") ? said : `${said}.`;
}
