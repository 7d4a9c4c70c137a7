// The server's models, and the list in which one is chosen.

import { byId, make } from "./dom.js";

export class Models {
  #names = [];

  /** chosen: called with the name that was chosen. */
  constructor(server, chosen) {
    this.server = server;
    this.list = byId("model");
    this.list.addEventListener("change", () => chosen(this.list.value));
  }

  /** Ask the server which it has. Those known stay where it does not answer (ServerError). */
  async load() {
    this.#names = (await this.server.models()).map(({ id }) => id);
    this.list.replaceChildren(...this.#names.map((name) => make("option", { value: name }, name)));
    this.list.disabled = this.none;
  }

  /** Whether none is known: there is none, or the server has not answered yet. */
  get none() {
    return this.#names.length === 0;
  }

  /** The model to ask where `name` is wished for: the server's first where there is none of that name. */
  nearest(name) {
    return this.#names.includes(name) ? name : (this.#names[0] ?? name);
  }

  /** Show that one is chosen. */
  show(name) {
    if (!this.none) this.list.value = this.nearest(name);
  }

  /** Whether a name needs to be said, for there are others. */
  isTold(name) {
    return this.#names.length !== 1 || this.#names[0] !== name;
  }
}
