// What this browser remembers besides conversations: theme, model, settings of new chats, the key if so wished.

const PREFIX = "llamero.";
const USUAL = { theme: "system", model: "", defaults: { system: "", settings: {} }, sidebar: true };

/** One of the browser's storages. Where it is forbidden or full, what is set holds as long as the page is open. */
class Store {
  #held = new Map();

  /** area: gives the storage; asking for it may already fail. */
  constructor(area) {
    this.area = area;
  }

  get(name) {
    if (this.#held.has(name)) return this.#held.get(name) ?? undefined;
    try {
      return JSON.parse(this.area().getItem(PREFIX + name)) ?? undefined;
    } catch {
      return undefined; // no storage, or not ours
    }
  }

  /** Set a value; null takes it away. */
  set(name, value) {
    try {
      if (value === null) this.area().removeItem(PREFIX + name);
      else this.area().setItem(PREFIX + name, JSON.stringify(value));
      this.#held.delete(name);
    } catch {
      this.#held.set(name, value);
    }
  }
}

const ofBrowser = new Store(() => localStorage);
const ofTab = new Store(() => sessionStorage);

export const preferences = {
  get: (name) => ofBrowser.get(name) ?? USUAL[name],
  set: (name, value) => ofBrowser.set(name, value),

  /** The API key: of this tab, or remembered. */
  key: () => ofTab.get("key") ?? ofBrowser.get("key") ?? "",
  setKey(key, remember) {
    ofTab.set("key", key || null);
    ofBrowser.set("key", remember && key ? key : null);
  },
  remembersKey: () => ofBrowser.get("key") !== undefined,
};
