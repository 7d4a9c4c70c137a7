// The page: puts its parts together, and does what they ask for.

import { announce, toast } from "./announcer.js";
import { Archive } from "./archive.js";
import { copyText } from "./clipboard.js";
import { Composer } from "./composer.js";
import { byId, make } from "./dom.js";
import { exported, imported } from "./exchange.js";
import { Inspector } from "./inspector.js";
import { preferences } from "./preferences.js";
import { chatBody } from "./sampling.js";
import { Server } from "./server.js";
import { SettingsSheet } from "./settings.js";
import { Shortcuts } from "./shortcuts.js";
import { Sidebar } from "./sidebar.js";
import { applyTheme } from "./theme.js";
import { Transcript } from "./transcript.js";
import { add, branch, choose, emptyConversation, find, path, pathTo, remove } from "./tree.js";
import { Writing } from "./writing.js";

const SAVE_EVERY = 1000; // ms, while an answer is being written

class Page {
  server = new Server();
  archive = new Archive((id) => this.#changedElsewhere(id));
  conversations = new Map(); // id -> conversation
  writings = new Map(); // message id -> Writing
  conversation = null; // the open one

  constructor() {
    applyTheme();
    this.server.key = preferences.key();
    this.modelList = byId("model");
    this.inspector = new Inspector(this.server);
    this.composer = new Composer({
      send: (text) => this.send(text),
      stop: () => this.stop(),
      editLast: () => this.#editLast(),
    });
    this.transcript = new Transcript(byId("scroller"), byId("transcript"), this.#messageActions(), (text) => this.send(text));
    this.sidebar = new Sidebar({
      open: (conversation) => this.open(conversation),
      rename: (conversation, title) => this.#change(conversation, { title, named: true }),
      remove: (conversation) => this.delete(conversation),
      exportOne: (conversation) => download([conversation], conversation.title),
    });
    this.settings = new SettingsSheet({
      changed: (conversation) => this.#changed(conversation),
      keyChanged: () => ((this.server.key = preferences.key()), this.loadModels()),
      exportAll: () => download([...this.conversations.values()].filter(({ messages }) => messages.length), "conversations"),
      importFile: (file) => this.#import(file),
      removeAll: () => this.#removeAll(),
    });
    this.shortcuts = new Shortcuts(this.#keyActions());
    byId("shortcut-rows").append(...this.shortcuts.rows());
    byId("new-chat").querySelector("kbd").textContent = this.shortcuts.name("k");
    this.#controls();
  }

  async start() {
    const kept = await this.archive.open();
    for (const conversation of await this.archive.all()) this.conversations.set(conversation.id, settledAnswers(conversation));
    const last = this.conversations.get(location.hash.slice(1));
    this.open(last ?? this.#fresh());
    if (!kept) toast("This browser keeps nothing here: conversations end with this tab. Export what you want to keep.");
    await this.loadModels();
  }

  /** Ask the server for its models; opens the key's field where it wants one. */
  async loadModels() {
    try {
      this.models = await this.server.models();
    } catch (error) {
      this.models = [];
      if (error.status === 401) this.#askForKey();
      else toast(error.message);
    }
    this.modelList.replaceChildren(...this.models.map(({ id }) => make("option", { value: id }, id)));
    this.modelList.disabled = this.models.length === 0;
    this.#showModel();
    this.show();
  }

  open(conversation) {
    this.conversation = conversation;
    history.replaceState(null, "", conversation.messages.length ? `#${conversation.id}` : location.pathname);
    this.transcript.cancel();
    this.#showModel();
    this.show();
    this.transcript.toEnd();
    this.#narrow(() => this.toggleSidebar(false));
    this.composer.focus();
  }

  /** Show everything as it is now. */
  show() {
    const { conversation } = this;
    const busy = new Set([...this.writings.values()].map((writing) => writing.conversation.id));
    const listed = [...this.conversations.values()].sort((a, b) => b.updated - a.updated);
    this.sidebar.update(listed, conversation, busy);
    this.transcript.show(conversation, this.writings);
    this.composer.update(busy.has(conversation.id));
    const system = conversation.system.trim();
    byId("system-note").hidden = !system;
    byId("system-text").textContent = system;
    document.title = conversation.messages.length ? `${conversation.title} · llamero` : "llamero";
  }

  send(text) {
    const { conversation } = this;
    const said = add(conversation, path(conversation).at(-1)?.id ?? "", "user", text);
    this.answer(conversation, said);
  }

  /** Have the message after `said` written. */
  async answer(conversation, said) {
    const message = add(conversation, said.id, "assistant");
    message.asked = this.#asked(conversation);
    message.model = message.asked.model;
    this.conversations.set(conversation.id, conversation);
    let saved = Date.now();
    const writing = new Writing(this.server, message, () => {
      if (this.conversation === conversation) this.transcript.showSoon(conversation, this.writings);
      if (Date.now() - saved > SAVE_EVERY) (saved = Date.now()), this.archive.save(conversation);
    });
    writing.conversation = conversation;
    this.writings.set(message.id, writing);
    if (this.conversation === conversation) history.replaceState(null, "", `#${conversation.id}`);
    this.transcript.toEnd();
    announce("Writing an answer.");
    this.show();
    try {
      await writing.run(this.#body(conversation, message));
      announce(message.error ?? (message.content.slice(0, 2000) || "The answer is empty."));
    } catch (error) {
      Object.assign(message, { finish: "error", error: error.message });
      this.#askForKey();
    } finally {
      this.writings.delete(message.id);
      this.#changed(conversation);
    }
  }

  /** Stop what is being written in the open conversation. */
  stop() {
    const here = [...this.writings.values()].filter((writing) => writing.conversation === this.conversation);
    for (const writing of here) writing.stop();
    return here.length > 0;
  }

  delete(conversation) {
    for (const writing of this.writings.values()) if (writing.conversation === conversation) writing.stop();
    this.conversations.delete(conversation.id);
    this.archive.delete(conversation.id);
    if (this.conversation === conversation) this.open(this.#fresh());
    else this.show();
    const undo = () => (this.conversations.set(conversation.id, conversation), this.#changed(conversation), this.open(conversation));
    toast(`Deleted “${conversation.title}”.`, { label: "Undo", run: undo });
  }

  toggleSidebar(open = !document.body.classList.contains("sidebar-open")) {
    document.body.classList.toggle("sidebar-open", open);
    byId("toggle-sidebar").setAttribute("aria-expanded", String(open));
    byId("sidebar").inert = !open;
    if (!isNarrow()) preferences.set("sidebar", open);
  }

  #fresh() {
    const { system, settings } = preferences.get("defaults");
    return emptyConversation({ system, settings, model: preferences.get("model") });
  }

  #asked({ model, system, settings }) {
    return { model: this.#modelOf(model), system, settings: { ...settings } };
  }

  /** The model of a conversation, or the server's first where it is not there. */
  #modelOf(model) {
    return this.models?.some(({ id }) => id === model) ? model : (this.models?.[0]?.id ?? model);
  }

  /** The request for a message, as it was made or would be made. */
  #body(conversation, message) {
    return chatBody({ ...(message.asked ?? this.#asked(conversation)), messages: pathTo(conversation, message.parent) });
  }

  #showModel() {
    if (this.models?.length) this.modelList.value = this.#modelOf(this.conversation.model);
  }

  #changed(conversation) {
    if (this.conversations.has(conversation.id)) this.archive.save(conversation); // not fresh, not deleted
    if (this.conversation.id === conversation.id) this.transcript.cancel();
    this.show();
  }

  #change(conversation, values) {
    Object.assign(conversation, values);
    this.#changed(conversation);
  }

  async #changedElsewhere(id) {
    if ([...this.writings.values()].some((writing) => writing.conversation.id === id)) return;
    const conversation = await this.archive.get(id);
    if (conversation) this.conversations.set(id, conversation);
    else this.conversations.delete(id);
    if (this.conversation?.id === id && conversation) this.conversation = conversation;
    this.show();
  }

  #messageActions() {
    const here = () => this.conversation;
    return {
      copy: async (message, button) => {
        toast((await copyText(message.content)) ? "Copied." : "The browser does not allow copying.");
        button.focus();
      },
      edit: (message, text) => {
        const version = add(here(), message.parent, message.role, text);
        if (message.role === "user") this.answer(here(), version);
        else this.#changed(here());
      },
      regenerate: (message) => this.answer(here(), find(here(), message.parent)),
      choose: (message) => {
        choose(here(), message.id);
        this.#changed(here());
        const view = this.transcript.view(message.id);
        (view.element.querySelector(".versions button:not([disabled])") ?? view.element).focus();
      },
      branch: (message) => {
        const copy = branch(here(), message.id);
        this.conversations.set(copy.id, copy);
        this.archive.save(copy);
        this.open(copy);
        toast("This is a new chat that begins with what was said so far.");
      },
      tellModel: (model) => this.models?.length !== 1 || this.models[0].id !== model,
      inspect: (message) => this.inspector.open(this.#body(here(), message), message.figures),
      remove: (message) => {
        const conversation = here();
        const before = structuredClone({ messages: conversation.messages, chosen: conversation.chosen });
        remove(conversation, message.id);
        this.#changed(conversation);
        toast("Deleted.", { label: "Undo", run: () => this.#change(conversation, before) });
      },
    };
  }

  #keyActions() {
    return {
      newChat: () => this.open(this.#fresh()),
      search: () => (this.toggleSidebar(true), byId("search").focus()),
      sidebar: () => this.toggleSidebar(),
      settings: () => this.settings.open(this.conversation),
      inspect: () => this.#inspect(),
      regenerate: () => this.#regenerate(),
      help: () => byId("shortcuts").showModal(),
      walk: (step) => this.transcript.walk(step),
      escape: () => {
        if (document.querySelector("dialog[open]")) return false;
        if (this.stop()) return true;
        if (isNarrow() && document.body.classList.contains("sidebar-open")) return this.toggleSidebar(false);
        return this.composer.focus();
      },
    };
  }

  #controls() {
    byId("new-chat").addEventListener("click", () => this.open(this.#fresh()));
    byId("new-chat-narrow").addEventListener("click", () => this.open(this.#fresh()));
    byId("toggle-sidebar").addEventListener("click", () => this.toggleSidebar());
    byId("scrim").addEventListener("click", () => this.toggleSidebar(false));
    byId("open-settings").addEventListener("click", () => this.settings.open(this.conversation));
    byId("open-inspector").addEventListener("click", () => this.#inspect());
    byId("open-shortcuts").addEventListener("click", () => byId("shortcuts").showModal());
    byId("edit-system").addEventListener("click", () => this.settings.open(this.conversation));
    this.modelList.addEventListener("change", () => {
      preferences.set("model", this.modelList.value);
      this.#change(this.conversation, { model: this.modelList.value });
    });
    for (const dialog of document.querySelectorAll("dialog")) {
      dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside the sheet
      for (const button of dialog.querySelectorAll(".close")) button.addEventListener("click", () => dialog.close());
    }
    const size = matchMedia("(max-width: 48rem)");
    const fit = () => this.toggleSidebar(size.matches ? false : preferences.get("sidebar"));
    size.addEventListener("change", fit);
    fit();
  }

  /** The prompt of the next request, with what stands in the box. */
  #inspect() {
    const messages = path(this.conversation).filter((message) => message.content);
    const draft = this.composer.text.trim();
    if (draft) messages.push({ role: "user", content: draft });
    if (!messages.length) return toast("There is nothing to inspect yet: write something first.");
    return this.inspector.open(chatBody({ ...this.#asked(this.conversation), messages }));
  }

  #regenerate() {
    const last = path(this.conversation).findLast((message) => message.role === "user");
    if (last && !this.composer.writing) this.answer(this.conversation, last);
  }

  #editLast() {
    const last = path(this.conversation).findLast((message) => message.role === "user");
    if (last && !this.composer.writing) this.transcript.view(last.id).edit();
  }

  #askForKey() {
    this.settings.open(this.conversation, "key");
    byId("key-note").hidden = false;
  }

  async #import(file) {
    try {
      const found = imported(await file.text());
      for (const conversation of found) {
        this.conversations.set(conversation.id, conversation);
        await this.archive.save(conversation);
      }
      toast(`Imported ${found.length} conversation${found.length === 1 ? "" : "s"}.`);
      this.show();
    } catch (error) {
      toast(`Not imported. ${error.message}`);
    }
  }

  #removeAll() {
    const all = [...this.conversations.values()];
    for (const conversation of all) this.archive.delete(conversation.id);
    for (const writing of this.writings.values()) writing.stop();
    this.conversations.clear();
    byId("settings").close();
    this.open(this.#fresh());
    const undo = () => {
      for (const conversation of all) {
        this.conversations.set(conversation.id, conversation);
        this.archive.save(conversation);
      }
      this.show();
    };
    toast("Deleted all conversations.", { label: "Undo", run: undo });
  }

  #narrow(run) {
    if (isNarrow()) run();
  }
}

function isNarrow() {
  return matchMedia("(max-width: 48rem)").matches;
}

/** A conversation as it was saved; an answer that a closed tab cut short is marked as stopped. */
function settledAnswers(conversation) {
  for (const message of conversation.messages) if (message.role === "assistant") message.finish ??= "stopped";
  return conversation;
}

function download(conversations, name) {
  const address = URL.createObjectURL(new Blob([exported(conversations)], { type: "application/json" }));
  const day = new Date().toISOString().slice(0, 10);
  const file = `llamero-${name.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40)}-${day}.json`;
  make("a", { href: address, download: file }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

new Page().start();
