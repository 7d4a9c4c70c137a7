// Where conversations are kept: IndexedDB of this browser, and nowhere else. Other tabs are told of every change.

const NAME = "llamero";
const STORE = "conversations";

export class Archive {
  #database = null;
  #channel = new BroadcastChannel("llamero-conversations");

  /** changed: called with a conversation's id when another tab saved or deleted it. */
  constructor(changed) {
    this.#channel.onmessage = (event) => changed(event.data);
  }

  /** Open the store. Where the browser allows none (private windows of some) conversations live as long as the tab. */
  async open() {
    try {
      const opening = indexedDB.open(NAME, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "id" });
      this.#database = await settled(opening);
    } catch {
      this.#database = null;
    }
    return this.#database !== null;
  }

  /** All conversations, latest change first. */
  async all() {
    if (!this.#database) return [];
    const found = await settled(this.#store("readonly").getAll());
    return found.sort((a, b) => b.updated - a.updated);
  }

  async get(id) {
    return this.#database ? settled(this.#store("readonly").get(id)) : undefined;
  }

  async save(conversation) {
    if (!this.#database) return;
    await settled(this.#store("readwrite").put(conversation));
    this.#channel.postMessage(conversation.id);
  }

  async delete(id) {
    if (!this.#database) return;
    await settled(this.#store("readwrite").delete(id));
    this.#channel.postMessage(id);
  }

  #store(mode) {
    return this.#database.transaction(STORE, mode).objectStore(STORE);
  }
}

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
