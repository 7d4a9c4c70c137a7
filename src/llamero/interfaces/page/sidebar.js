// The list of conversations: found by words, opened, renamed, deleted.

import { byId, iconButton, make } from "./dom.js";
import { announce } from "./announcer.js";

const DAY = 24 * 3600 * 1000;

export class Sidebar {
  #conversations = [];
  #current = null;
  #writing = new Set();

  /** actions: open, rename (conversation, title), remove, exportOne: each called with a conversation. */
  constructor(actions) {
    this.actions = actions;
    this.list = byId("conversations");
    this.search = byId("search");
    this.search.addEventListener("input", () => {
      this.#show();
      const found = this.list.querySelectorAll(".chat").length;
      announce(`${found} conversation${found === 1 ? "" : "s"} found`);
    });
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.search.value) (event.stopPropagation(), this.#clear());
      if (event.key === "ArrowDown" || event.key === "Enter") (event.preventDefault(), this.list.querySelector(".chat-open")?.focus());
    });
    this.list.addEventListener("keydown", (event) => this.#key(event));
  }

  /** conversations: latest first; current: the open one; writing: ids of those in which an answer is being written. */
  update(conversations, current, writing) {
    this.#conversations = conversations;
    this.#current = current;
    this.#writing = writing;
    if (!this.list.querySelector(".rename")) this.#show();
  }

  #clear() {
    this.search.value = "";
    this.#show();
  }

  #show() {
    const focused = this.list.contains(document.activeElement) && document.activeElement.closest(".chat")?.dataset.id;
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = this.#conversations.filter((conversation) => holds(conversation, words));
    const parts = [...Map.groupBy(found, ({ updated }) => groupOf(updated))].map(([name, group]) => {
      const id = `group-${name.replace(/\W/g, "")}`;
      const items = group.map((conversation) => this.#item(conversation));
      return make("section", { "aria-labelledby": id }, make("h3", { id }, name), make("ul", {}, ...items));
    });
    if (!found.length) parts.push(make("p", { class: "none" }, words.length ? "Nothing found." : "Conversations will be listed here."));
    this.list.replaceChildren(...parts);
    if (focused) this.list.querySelector(`[data-id="${CSS.escape(focused)}"] .chat-open`)?.focus();
  }

  #item(conversation) {
    const { actions } = this;
    const current = conversation.id === this.#current?.id;
    const name = conversation.title;
    const open = make(
      "button",
      { type: "button", class: "chat-open", "aria-current": current ? "true" : null, title: name, on: { click: () => actions.open(conversation) } },
      make("span", { class: "chat-title" }, name),
      this.#writing.has(conversation.id) ? make("span", { class: "chat-writing", role: "img", "aria-label": "being written" }) : null,
    );
    const tools = make(
      "span",
      { class: "chat-tools" },
      iconButton("pencil", `Rename “${name}”`, () => this.#rename(conversation)),
      iconButton("download", `Export “${name}”`, () => actions.exportOne(conversation)),
      iconButton("trash", `Delete “${name}”`, () => actions.remove(conversation)),
    );
    return make("li", { class: current ? "chat current" : "chat", "data-id": conversation.id }, open, tools);
  }

  #rename(conversation) {
    const item = this.list.querySelector(`[data-id="${CSS.escape(conversation.id)}"]`);
    const box = make("input", { class: "rename", type: "text", maxlength: 200, "aria-label": "New name" });
    box.value = conversation.title;
    let over = false;
    const done = (save) => {
      if (over) return;
      over = true;
      box.remove();
      if (save && box.value.trim()) this.actions.rename(conversation, box.value.trim());
      this.#show();
      this.list.querySelector(`[data-id="${CSS.escape(conversation.id)}"] .chat-open`)?.focus();
    };
    box.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter" && !event.isComposing) done(true);
      if (event.key === "Escape") done(false);
    });
    box.addEventListener("blur", () => done(true));
    item.replaceChildren(box);
    box.select();
  }

  #key(event) {
    const item = event.target.closest(".chat");
    if (!item) return;
    const all = [...this.list.querySelectorAll(".chat-open")];
    const here = all.indexOf(item.querySelector(".chat-open"));
    const conversation = this.#conversations.find(({ id }) => id === item.dataset.id);
    const next = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: all.length - 1 }[event.key];
    if (next !== undefined) {
      event.preventDefault();
      if (next < 0) this.search.focus();
      else all[Math.min(next, all.length - 1)].focus();
    } else if (event.key === "F2") {
      this.#rename(conversation);
    } else if (event.key === "Delete") {
      this.actions.remove(conversation);
      const left = this.list.querySelectorAll(".chat-open");
      (left[Math.min(here, left.length - 1)] ?? this.search).focus();
    }
  }
}

function holds(conversation, words) {
  if (!words.length) return true;
  const text = [conversation.title, ...conversation.messages.map((message) => message.content)].join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

function groupOf(time) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (time >= midnight) return "Today";
  if (time >= midnight - DAY) return "Yesterday";
  if (time >= midnight - 7 * DAY) return "Last 7 days";
  return time >= midnight - 30 * DAY ? "Last 30 days" : "Older";
}
