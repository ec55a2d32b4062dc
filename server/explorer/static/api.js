// The server's REST routes: docs/api.md. Errors are sentences that say what to do.

export const UNREACHABLE = 0;
const UNAUTHENTICATED = 401;

export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }

  get needsToken() {
    return this.status === UNAUTHENTICATED;
  }

  get unreachable() {
    return this.status === UNREACHABLE;
  }
}

export class Api {
  // The bearer token is kept here alone: a reload of the page forgets it.
  #token = "";
  #listeners = new Set();

  constructor(base) {
    this.base = base;
    this.lastCall = null;
  }

  set token(text) {
    this.#token = text.trim();
  }

  // Call `listener` with every call that went well; returns what ends that.
  onCall(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
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

  metrics() {
    return this.#send("v1/metrics");
  }

  async #send(path, options = {}) {
    const headers = { "content-type": "application/json" };
    if (this.#token) headers.authorization = `Bearer ${this.#token}`;
    let response;
    let body;
    try {
      response = await fetch(new URL(path, this.base), { ...options, headers, credentials: "same-origin", cache: "no-store" });
      body = await response.json();
    } catch {
      throw new ApiError(
        response && !response.ok ? response.status : UNREACHABLE,
        "The server does not answer. Start it, or check the connection; this page tries again by itself.",
      );
    }
    if (!response.ok) throw new ApiError(response.status, refusal(response.status, body.error));
    return body;
  }
}

function refusal(status, text) {
  if (status === UNAUTHENTICATED) return "The server asks for a bearer token: type yours into “Access token”.";
  const sentence = String(text || `The server answered ${status}; look into its log.`);
  return sentence.endsWith(".") ? sentence : `${sentence}.`;
}
