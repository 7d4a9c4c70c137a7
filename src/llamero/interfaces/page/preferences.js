// What this browser remembers besides conversations: theme, model, settings of new chats, the key if so wished.

const PREFIX = "llamero.";
const USUAL = { theme: "system", model: "", defaults: { system: "", settings: {} }, sidebar: true };

function stored(storage, name) {
  try {
    return JSON.parse(storage.getItem(PREFIX + name)) ?? undefined;
  } catch {
    return undefined; // no storage, or not ours
  }
}

function store(storage, name, value) {
  try {
    if (value === null) storage.removeItem(PREFIX + name);
    else storage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // no storage: it holds until the tab is closed
  }
}

export const preferences = {
  get: (name) => stored(localStorage, name) ?? USUAL[name],
  set: (name, value) => store(localStorage, name, value),

  /** The API key: of this tab, or remembered. */
  key: () => stored(sessionStorage, "key") ?? stored(localStorage, "key") ?? "",
  setKey(key, remember) {
    store(sessionStorage, "key", key || null);
    store(localStorage, "key", remember && key ? key : null);
  },
  remembersKey: () => stored(localStorage, "key") !== undefined,
};
