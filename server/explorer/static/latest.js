// At most one request in flight; of those that come meanwhile the newest is sent next, the others never.

export class Latest {
  #run;
  #busy = false;
  #next = null;

  // `run` takes what `push` was given, and returns a promise that never rejects.
  constructor(run) {
    this.#run = run;
  }

  push(value) {
    this.#next = { value };
    if (!this.#busy) void this.#drain();
  }

  async #drain() {
    this.#busy = true;
    try {
      while (this.#next) {
        const { value } = this.#next;
        this.#next = null;
        await this.#run(value);
      }
    } finally {
      this.#busy = false;
    }
  }
}
