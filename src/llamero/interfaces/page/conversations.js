// All conversations: found here, kept in the archive, and in step with other tabs.

import { Archive } from "./archive.js";
import { takeIn } from "./tree.js";

const KEEPS_NOTHING = "This browser keeps nothing here: conversations end with this tab. Export what you want to keep.";
const FULL = "This browser has no room for more: what is said now ends with this tab. Export conversations, or delete some.";

export class Conversations {
  #all = new Map(); // id -> conversation
  #archive = new Archive((id) => this.#elsewhere(id));
  #troubled = false;

  /**
   * on.changed(), on.gone(conversation): another tab changed one, or deleted it. on.trouble(words): they are not kept.
   * writing(conversation): the ids of the messages being written here.
   */
  constructor(on, writing) {
    this.on = on;
    this.writing = writing;
  }

  /** Read what is kept. An answer that a closed tab cut short is marked as stopped. */
  async load() {
    for (const conversation of (await this.#try(() => this.#archive.all())) ?? []) {
      for (const message of conversation.messages) if (message.role === "assistant") message.finish ??= "stopped";
      this.#all.set(conversation.id, conversation);
    }
  }

  /** Latest change first. */
  list() {
    return [...this.#all.values()].sort((a, b) => b.updated - a.updated);
  }

  get(id) {
    return this.#all.get(id);
  }

  /** Take one among them, and keep it. */
  add(conversation) {
    this.#all.set(conversation.id, conversation);
    return this.save(conversation);
  }

  /** Keep it as it is now; one that is not among them (fresh, or deleted) is left alone. */
  async save(conversation) {
    if (this.#all.get(conversation.id) === conversation) await this.#try(() => this.#archive.save(conversation));
  }

  delete(conversation) {
    this.#all.delete(conversation.id);
    return this.#try(() => this.#archive.delete(conversation.id));
  }

  async #try(ask) {
    try {
      const result = await ask();
      this.#troubled = false;
      return result;
    } catch (error) {
      if (!this.#troubled) this.on.trouble(error.name === "QuotaExceededError" ? FULL : KEEPS_NOTHING);
      this.#troubled = true;
      return undefined;
    }
  }

  async #elsewhere(id) {
    const theirs = await this.#try(() => this.#archive.get(id));
    const ours = this.#all.get(id);
    if (theirs && ours) {
      if (takeIn(ours, theirs, this.writing(ours))) this.save(ours);
    } else if (theirs) {
      this.#all.set(id, theirs);
    } else if (ours && !this.#troubled) {
      this.#all.delete(id);
      return this.on.gone(ours);
    }
    return this.on.changed();
  }
}
