// The answers being written now, each in its conversation.

export class Writings {
  #all = new Map(); // message id -> Writing

  /** The one that writes a message, or null. */
  get(id) {
    return this.#all.get(id) ?? null;
  }

  add(writing) {
    this.#all.set(writing.message.id, writing);
  }

  delete(writing) {
    this.#all.delete(writing.message.id);
  }

  /** Ids of the messages being written in a conversation. */
  messages({ id }) {
    return new Set(this.#of(id).map((writing) => writing.message.id));
  }

  /** Ids of the conversations in which something is being written. */
  conversations() {
    return new Set([...this.#all.values()].map((writing) => writing.conversation.id));
  }

  /** Stop all in a conversation, or those that `which` says; true where there were any. */
  stop({ id }, which = () => true) {
    const stopped = this.#of(id).filter(which);
    for (const writing of stopped) writing.stop();
    return stopped.length > 0;
  }

  #of(id) {
    return [...this.#all.values()].filter(({ conversation }) => conversation.id === id);
  }
}
