// One message as it is shown: its text, its versions, what can be done with it, and what it took.

import { make, icon, iconButton } from "./dom.js";
import { phrases } from "./figures.js";
import { Markdown } from "./markdown.js";
import { tokenView } from "./tokens.js";
import { versions } from "./tree.js";

const NAMES = { user: "You", assistant: "Llama" };

/**
 * The view of one message. `actions`: what happens on copy, edit, regenerate, choose, branch, inspect and remove, each
 * called with the message (edit: also the new text; choose: the version). isTold: whether a model's name needs to be said.
 */
export class MessageView {
  #markdown = new Markdown();
  #asTokens = false;
  #editing = false;
  #body = []; // what the body was made of
  #foot = []; // what the foot was made of

  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.body = make("div", { class: "message-body" });
    this.foot = make("div", { class: "message-foot" });
    this.element = make(
      "article",
      { class: `message ${message.role}`, "aria-label": NAMES[message.role], tabindex: -1, "data-id": message.id },
      make("h2", { class: "visually-hidden" }, `${NAMES[message.role]} said`),
      this.body,
      this.foot,
    );
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show the message as it is now in its conversation. last: whether it is the last one read. */
  update(conversation, writing, last) {
    this.conversation = conversation;
    this.element.classList.toggle("last", last);
    this.draw(writing);
  }

  /** Show the message as it is now. writing: the Writing at work on it, or null. */
  draw(writing) {
    this.element.setAttribute("aria-busy", String(Boolean(writing)));
    this.element.classList.toggle("writing", Boolean(writing));
    if (this.#editing) return;
    const { content, error, finish, figures, model } = this.message;
    const body = [Boolean(writing), writing?.progress, content, error, this.#asTokens];
    if (!same(body, this.#body)) this.#showBody(writing);
    this.#body = body;
    const { index, all } = versions(this.conversation, this.message);
    const foot = [Boolean(writing), index, all.length, this.#asTokens, this.actions.isTold(model), finish, figures];
    if (!same(foot, this.#foot)) this.foot.replaceChildren(...(writing ? [] : this.#parts(index, all)));
    this.#foot = foot;
  }

  /** Change the text in place. */
  edit() {
    this.#editing = true;
    const { message } = this;
    const label = `Edit ${message.role === "user" ? "your message" : "this answer"}`;
    const box = make("textarea", { class: "edit-box", "aria-label": label, rows: Math.min(16, message.content.split("\n").length + 1) });
    box.value = message.content;
    const done = (save) => {
      this.#editing = false;
      this.#body = this.#foot = [];
      this.draw(null);
      if (save && box.value.trim() && (message.role === "user" || box.value !== message.content)) this.actions.edit(message, box.value);
      if (this.element.isConnected) this.element.focus();
    };
    const save = make("button", { type: "button", class: "button primary", on: { click: () => done(true) } },
      message.role === "user" ? "Send as a new version" : "Save as a new version");
    const cancel = make("button", { type: "button", class: "button", on: { click: () => done(false) } }, "Cancel");
    box.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Escape") (event.stopPropagation(), done(false));
      if (event.key === "Enter" && !event.shiftKey) (event.preventDefault(), done(true));
    });
    this.body.replaceChildren(make("div", { class: "edit" }, box, make("div", { class: "edit-buttons" }, cancel, save)));
    this.foot.replaceChildren();
    box.focus();
    box.setSelectionRange(box.value.length, box.value.length);
  }

  #showBody(writing) {
    const { role, content, error, tokens } = this.message;
    const parts = [];
    if (role !== "assistant") {
      parts.push(make("div", { class: "said" }, content));
    } else if (this.#asTokens && !writing) {
      parts.push(tokenView(tokens));
    } else if (content) {
      if (writing) this.#markdown.update(content);
      else this.#markdown.settle(content);
      parts.push(this.#markdown.element);
    }
    if (writing && !content) parts.push(waiting(writing.progress));
    if (error && !writing) parts.push(make("p", { class: "error", role: "alert" }, icon("warning"), make("span", {}, error)));
    if (!writing && !content && !error) parts.push(make("p", { class: "empty" }, "(an empty answer)"));
    if (!same(parts, this.body.childNodes)) this.body.replaceChildren(...parts);
  }

  #parts(index, all) {
    return [this.#switch(index, all), this.#tools(), this.#figures()].filter(Boolean);
  }

  #switch(index, all) {
    if (all.length < 2) return null;
    const go = (step) => this.actions.choose(all[index + step]);
    return make(
      "span",
      { class: "versions", role: "group", "aria-label": "Versions" },
      iconButton("left", "Previous version", () => go(-1), { disabled: index === 0 }),
      make("span", { class: "version-count", "aria-label": `Version ${index + 1} of ${all.length}` }, `${index + 1}/${all.length}`),
      iconButton("right", "Next version", () => go(1), { disabled: index === all.length - 1 }),
    );
  }

  #tools() {
    const { message, actions } = this;
    const answer = message.role === "assistant";
    const tools = [
      iconButton("copy", "Copy", (event) => actions.copy(message, event.currentTarget)),
      iconButton("pencil", "Edit", () => this.edit()),
      answer ? iconButton("again", "Regenerate", () => actions.regenerate(message)) : null,
      answer && message.tokens?.length ? this.#tokensButton() : null,
      answer ? iconButton("inspect", "Inspect the prompt of this answer", () => actions.inspect(message)) : null,
      iconButton("branch", "Continue from here in a new chat", () => actions.branch(message)),
      iconButton("trash", "Delete this message and what follows", () => actions.remove(message)),
    ];
    return make("span", { class: "tools", role: "group", "aria-label": "What to do with it" }, ...tools);
  }

  #tokensButton() {
    const toggle = () => {
      this.#asTokens = !this.#asTokens;
      this.draw(null);
      this.foot.querySelector("[aria-pressed]").focus();
    };
    return iconButton("chances", "Token probabilities", toggle, { "aria-pressed": String(this.#asTokens) });
  }

  #figures() {
    if (this.message.role !== "assistant") return null;
    const { model, ...rest } = this.message;
    const found = phrases(this.actions.isTold(model) ? this.message : rest);
    return found.length ? make("span", { class: "figures" }, ...found.map(({ text, title }) => make("span", { title }, text))) : null;
  }

  #key(event) {
    if (event.target !== this.element || event.altKey || event.ctrlKey || event.metaKey) return;
    const { index, all } = versions(this.conversation, this.message);
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && all[index + step]) (event.preventDefault(), this.actions.choose(all[index + step]));
    if (event.key === "e" && !this.element.classList.contains("writing")) (event.preventDefault(), this.edit());
  }
}

/** Whether two lists hold the same things. */
function same(some, others) {
  return some.length === others.length && some.every((each, index) => each === others[index]);
}

function waiting(progress) {
  const words = progress ? `${doing(progress.what)} ${Math.floor((100 * progress.done) / Math.max(1, progress.total))} %` : "";
  const dots = make("span", { class: "dots", "aria-hidden": "true" }, make("i"), make("i"), make("i"));
  return make("p", { class: "waiting" }, dots, make("span", {}, words));
}

function doing(what) {
  if (what.startsWith("load")) return "Loading the model…";
  return what.startsWith("read") || what.startsWith("prompt") ? "Reading the prompt…" : `${what}…`;
}
