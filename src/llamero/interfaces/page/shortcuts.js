// The keys of the page: one list, which is both what works and what the help shows.

import { make } from "./dom.js";

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);
const COMMAND = MAC ? "⌘" : "Ctrl";

/** What other files do on keys, told here so that the help is whole. */
const ELSEWHERE = [
  ["Enter", "Send"],
  ["Shift Enter", "A new line"],
  ["↑", "In an empty box: edit your last message"],
  ["← →", "On a message: the previous and next version"],
  ["E", "On a message: edit it"],
  ["↑ ↓", "In the list: walk over conversations"],
  ["F2", "In the list: rename"],
  ["Delete", "In the list: delete"],
  ["← →", "On a token: walk over tokens"],
];

export class Shortcuts {
  #keys;

  /** actions: newChat, search, sidebar, settings, inspect, regenerate, help, escape, walk(step). */
  constructor(actions) {
    const command = (key, words, run, more = {}) => ({ key, words, run, command: true, ...more });
    this.#keys = [
      command("k", "New chat", actions.newChat),
      command("k", "Search conversations", actions.search, { shift: true }),
      command("b", "Show or hide the list of conversations", actions.sidebar),
      command("i", "Inspect the prompt", actions.inspect),
      command(",", "Settings", actions.settings),
      command("/", "This list", actions.help),
      command("Enter", "Regenerate the last answer", actions.regenerate, { shift: true }),
      { key: "ArrowUp", words: "The message before", run: () => actions.walk(-1), alt: true },
      { key: "ArrowDown", words: "The message after", run: () => actions.walk(1), alt: true },
      { key: "Escape", words: "Stop the answer; close what is open", run: actions.escape },
    ];
    document.addEventListener("keydown", (event) => this.#press(event));
  }

  /** The keys of the first shortcut on a key, as this machine names them. */
  name(key) {
    return nameOf(this.#keys.find((one) => one.key === key));
  }

  /** The list as rows of a table. */
  rows() {
    const own = this.#keys.map((one) => [nameOf(one), one.words]);
    return [...own, ...ELSEWHERE].map(([keys, words]) =>
      make("tr", {}, make("td", {}, ...keys.split(" ").map((key) => make("kbd", {}, key))), make("td", {}, words)),
    );
  }

  #press(event) {
    if (event.isComposing) return;
    const command = event.ctrlKey || event.metaKey;
    const found = this.#keys.find(
      (one) =>
        one.key.toLowerCase() === event.key.toLowerCase() &&
        Boolean(one.command) === command && Boolean(one.alt) === event.altKey && Boolean(one.shift) === event.shiftKey,
    );
    if (!found || (document.querySelector("dialog[open]") && found.key !== "Escape")) return;
    if (found.run(event) !== false) event.preventDefault();
  }
}

function nameOf({ key, command, shift, alt }) {
  const name = { ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc" }[key] ?? key.toUpperCase().replace("ENTER", "Enter");
  return [command && COMMAND, alt && "Alt", shift && "Shift", name].filter(Boolean).join(" ");
}
