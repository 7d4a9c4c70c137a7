// Where conversations are kept: IndexedDB of this browser, and nowhere else. Other tabs are told of every change.

const NAME = "llamero";
const STORE = "conversations";

/** What is asked of it fails with the browser's own error where storage is forbidden or full. */
export class Archive {
  #opening = null; // a promise of the database
  #channel = new BroadcastChannel("llamero-conversations");

  /** changed: called with a conversation's id when another tab saved or deleted it. */
  constructor(changed) {
    this.#channel.onmessage = (event) => changed(event.data);
  }

  /** All conversations. */
  all() {
    return this.#run("readonly", (store) => store.getAll());
  }

  /** The conversation of an id, or undefined. */
  get(id) {
    return this.#run("readonly", (store) => store.get(id));
  }

  async save(conversation) {
    await this.#run("readwrite", (store) => store.put(conversation));
    this.#channel.postMessage(conversation.id);
  }

  async delete(id) {
    await this.#run("readwrite", (store) => store.delete(id));
    this.#channel.postMessage(id);
  }

  /** What `ask` asks of the store, once it is written: a full disk fails the transaction, not the request. */
  async #run(mode, ask) {
    this.#opening ??= opened(() => (this.#opening = null));
    const transaction = (await this.#opening).transaction(STORE, mode);
    const request = ask(transaction.objectStore(STORE));
    await new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    return request.result;
  }
}

/** The database. lost: called when it could not be opened, or the browser closed it (the site's data were cleared). */
async function opened(lost) {
  try {
    const opening = indexedDB.open(NAME, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "id" });
    return await new Promise((resolve, reject) => {
      opening.onsuccess = () => resolve(Object.assign(opening.result, { onclose: lost }));
      opening.onerror = () => reject(opening.error);
    });
  } catch (error) {
    lost();
    throw error;
  }
}
