// The conversation being read, from top to bottom; keeps the end in view while an answer grows, unless one scrolled up.

import { byId, make } from "./dom.js";
import { MessageView } from "./message.js";
import { path } from "./tree.js";

const NEAR = 80; // px from the end that count as being there
const STARTERS = [
  "Tell me a story about a little dog.",
  "Explain in two sentences why the sky is blue.",
  "Write a Python function that reverses a list.",
];

export class Transcript {
  #views = new Map(); // id -> MessageView
  #following = true;
  #waiting = new Set(); // ids of messages to be shown anew
  #free = 0; // when they may be (ms)

  /** start: called with the text of a starter that was chosen. */
  constructor(writings, actions, start) {
    Object.assign(this, { writings, actions, start, scroller: byId("scroller"), list: byId("transcript") });
    this.scroller.addEventListener("scroll", () => (this.#following = this.#gap() < NEAR), { passive: true });
  }

  /** Show a conversation. */
  show(conversation) {
    const messages = path(conversation);
    const shown = messages.map((message, index) => {
      let view = this.#views.get(message.id);
      if (view?.message !== message) this.#views.set(message.id, (view = new MessageView(message, this.actions)));
      view.update(conversation, this.writings.get(message.id), index === messages.length - 1);
      return view.element;
    });
    const ids = new Set(conversation.messages.map((message) => message.id));
    for (const id of this.#views.keys()) if (!ids.has(id)) this.#views.delete(id);
    const wanted = shown.length ? shown : [this.#greeting()];
    const same = wanted.length === this.list.children.length && wanted.every((element, i) => element === this.list.children[i]);
    if (!same) this.list.replaceChildren(...wanted);
    if (this.#following) this.toEnd();
  }

  /** Show a message that grows, on a frame to come; a long one seldom enough that half of the time is free. */
  showSoon(id) {
    if (!this.#waiting.size) requestAnimationFrame(() => this.#showWaiting());
    this.#waiting.add(id);
  }

  #showWaiting() {
    const begun = performance.now();
    if (begun < this.#free) return requestAnimationFrame(() => this.#showWaiting());
    for (const id of this.#waiting) this.#views.get(id)?.draw(this.writings.get(id));
    this.#waiting.clear();
    if (this.#following) this.toEnd();
    const now = performance.now();
    this.#free = now + (now - begun);
    return 0;
  }

  toEnd() {
    this.#following = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  view(id) {
    return this.#views.get(id);
  }

  /** Focus the message before (-1) or after (1) the focused one. */
  walk(step) {
    const all = [...this.list.querySelectorAll("article")];
    const here = all.indexOf(document.activeElement.closest("article"));
    const next = here < 0 ? (step < 0 ? all.length - 1 : 0) : here + step;
    all[Math.max(0, Math.min(all.length - 1, next))]?.focus();
  }

  #gap() {
    return this.scroller.scrollHeight - this.scroller.clientHeight - this.scroller.scrollTop;
  }

  #greeting() {
    const buttons = STARTERS.map((text) =>
      make("button", { type: "button", class: "starter", on: { click: () => this.start(text) } }, text),
    );
    return make(
      "div",
      { class: "greeting" },
      make("h2", {}, "What shall we talk about?"),
      make("p", {}, "The model runs where llamero runs, and conversations stay in this browser."),
      make("div", { class: "starters" }, ...buttons),
    );
  }
}
