// The page: puts its parts together, and does what they ask for.

import { announce, toast } from "./announcer.js";
import { copyText } from "./clipboard.js";
import { Composer } from "./composer.js";
import { Conversations } from "./conversations.js";
import { byId } from "./dom.js";
import { download, imported } from "./exchange.js";
import { Frame } from "./frame.js";
import { Inspector } from "./inspector.js";
import { Models } from "./models.js";
import { preferences } from "./preferences.js";
import { chatBody } from "./sampling.js";
import { Server } from "./server.js";
import { SettingsSheet } from "./settings.js";
import { Shortcuts } from "./shortcuts.js";
import { Sidebar } from "./sidebar.js";
import { applyTheme } from "./theme.js";
import { Transcript } from "./transcript.js";
import { add, branch, choose, emptyConversation, find, path, pathTo, putBack, remove } from "./tree.js";
import { Writing } from "./writing.js";
import { Writings } from "./writings.js";

const SAVE_EVERY = 1000; // ms, while an answer is being written

class Page {
  server = new Server();
  writings = new Writings();
  frame = new Frame();
  conversation = this.#fresh(); // the open one

  constructor() {
    applyTheme();
    this.server.key = preferences.key();
    this.inspector = new Inspector(this.server);
    const told = { changed: () => this.show(), gone: (conversation) => this.#gone(conversation), trouble: toast };
    this.conversations = new Conversations(told, (conversation) => this.writings.messages(conversation));
    this.models = new Models(this.server, (model) => {
      preferences.set("model", model);
      this.#change(this.conversation, { model });
    });
    this.composer = new Composer({
      send: (text) => this.send(text),
      stop: () => this.stop(),
      editLast: () => this.#withLast((last) => this.transcript.view(last.id).edit()),
    });
    this.transcript = new Transcript(this.writings, this.#messageActions(), (text) => this.send(text));
    this.sidebar = new Sidebar({
      open: (conversation) => this.open(conversation),
      rename: (conversation, title) => this.#change(conversation, { title, named: true }),
      remove: (conversation) => this.delete(conversation),
      exportOne: (conversation) => download([conversation], conversation.title),
    });
    this.settings = new SettingsSheet({
      changed: (conversation) => this.#changed(conversation),
      keyChanged: () => ((this.server.key = preferences.key()), this.loadModels()),
      exportAll: () => download(this.conversations.list(), "conversations"),
      importFile: (file) => this.#import(file),
      removeAll: () => this.#removeAll(),
    });
    this.shortcuts = new Shortcuts(this.#keyActions());
    byId("shortcut-rows").append(...this.shortcuts.rows());
    byId("new-chat").querySelector("kbd").textContent = this.shortcuts.name("k");
    this.#buttons();
  }

  async start() {
    await this.conversations.load();
    this.open(this.conversations.get(location.hash.slice(1)) ?? this.conversation);
    await this.loadModels();
    document.addEventListener("visibilitychange", () => document.hidden || this.loadModels({ quiet: true }));
  }

  /** Ask the server for its models, which may come and go; opens the key's field where it wants one. */
  async loadModels({ quiet = false } = {}) {
    const { key } = this.server;
    try {
      await this.models.load();
      byId("key-note").hidden = true;
    } catch (error) {
      if (quiet || key !== this.server.key) return; // of an older key: the newer one is being asked about
      if (error.status === 401) this.#askForKey();
      else toast(error.message);
    }
    this.show();
  }

  open(conversation) {
    this.conversation = conversation;
    history.replaceState(null, "", conversation.messages.length ? `#${conversation.id}` : location.pathname);
    this.show();
    this.transcript.toEnd();
    if (this.frame.covered) this.frame.toggle(false);
    this.composer.focus();
  }

  /** Show everything as it is now. */
  show() {
    const { conversation } = this;
    const busy = this.writings.conversations();
    this.sidebar.update(this.conversations.list(), conversation, busy);
    this.transcript.show(conversation);
    this.composer.update(busy.has(conversation.id));
    this.models.show(conversation.model);
    const system = conversation.system.trim();
    byId("system-note").hidden = !system;
    byId("system-text").textContent = system;
    document.title = conversation.messages.length ? `${conversation.title} · llamero` : "llamero";
  }

  send(text) {
    const { conversation } = this;
    this.answer(conversation, add(conversation, path(conversation).at(-1)?.id ?? "", "user", text));
  }

  /** Have the message after `said` written. */
  async answer(conversation, said) {
    const message = add(conversation, said.id, "assistant");
    message.asked = this.#asked(conversation);
    message.model = message.asked.model;
    let saved = Date.now();
    const writing = new Writing(this.server, conversation, message, () => {
      this.transcript.showSoon(message.id);
      if (Date.now() - saved > SAVE_EVERY) (saved = Date.now()), this.conversations.save(conversation);
    });
    this.writings.add(writing);
    this.conversations.add(conversation);
    history.replaceState(null, "", `#${conversation.id}`);
    announce("Writing an answer.");
    this.show();
    this.transcript.toEnd();
    await writing.run(this.#body(conversation, message));
    this.writings.delete(writing);
    if (!message.error) announce(message.content.slice(0, 2000) || "The answer is empty.");
    this.#changed(conversation);
    if (writing.refused) this.#askForKey();
    else if (message.error || this.models.none) this.loadModels({ quiet: true });
  }

  /** Stop what is being written in the open conversation. */
  stop() {
    return this.writings.stop(this.conversation);
  }

  delete(conversation) {
    this.conversations.delete(conversation);
    this.#gone(conversation);
    const undo = () => (this.conversations.add(conversation), this.open(conversation));
    toast(`Deleted “${conversation.title}”.`, { label: "Undo", run: undo });
  }

  #fresh() {
    const { system, settings } = preferences.get("defaults");
    return emptyConversation({ system, settings, model: preferences.get("model") });
  }

  /** What is asked of which model, besides the messages. */
  #asked({ model, system, settings }) {
    return { model: this.models.nearest(model), system, settings: { ...settings } };
  }

  /** The request for a message, as it was made or would be made. */
  #body(conversation, message) {
    return chatBody({ ...(message.asked ?? this.#asked(conversation)), messages: pathTo(conversation, message.parent) });
  }

  #changed(conversation) {
    this.conversations.save(conversation);
    this.show();
  }

  #change(conversation, values) {
    Object.assign(conversation, values);
    this.#changed(conversation);
  }

  /** A conversation was deleted, here or in another tab. */
  #gone(conversation) {
    this.writings.stop(conversation);
    if (this.conversation === conversation) this.open(this.#fresh());
    else this.show();
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
        this.conversations.add(copy);
        this.open(copy);
        toast("This is a new chat that begins with what was said so far.");
      },
      isTold: (model) => this.models.isTold(model),
      inspect: (message) => this.inspector.open(this.#body(here(), message), message.figures),
      remove: (message) => this.#remove(here(), message),
    };
  }

  #remove(conversation, message) {
    const before = conversation.messages;
    remove(conversation, message.id);
    this.writings.stop(conversation, (writing) => !find(conversation, writing.message.id));
    this.#changed(conversation);
    const undo = () => (putBack(conversation, before, message.id), this.#changed(conversation));
    toast("Deleted.", { label: "Undo", run: undo });
  }

  #keyActions() {
    return {
      newChat: () => this.open(this.#fresh()),
      search: () => (this.frame.toggle(true), byId("search").focus()),
      sidebar: () => this.frame.toggle(),
      settings: () => this.settings.open(this.conversation),
      inspect: () => this.#inspect(),
      regenerate: () => this.#withLast((last) => this.answer(this.conversation, last)),
      help: () => byId("shortcuts").showModal(),
      walk: (step) => this.transcript.walk(step),
      escape: () => {
        if (document.querySelector("dialog[open]")) return false;
        if (this.stop()) return true;
        return this.frame.covered ? this.frame.toggle(false) : this.composer.focus();
      },
    };
  }

  #buttons() {
    const { newChat, settings, inspect, help } = this.#keyActions();
    const clicks = { "new-chat": newChat, "new-chat-narrow": newChat, "open-settings": settings, "edit-system": settings };
    Object.assign(clicks, { "open-inspector": inspect, "open-shortcuts": help });
    for (const [id, run] of Object.entries(clicks)) byId(id).addEventListener("click", run);
  }

  /** The prompt of the next request, with what stands in the box. */
  #inspect() {
    const messages = path(this.conversation);
    const draft = this.composer.text.trim();
    if (draft) messages.push({ role: "user", content: draft });
    if (!messages.length) return toast("There is nothing to inspect yet: write something first.");
    return this.inspector.open(chatBody({ ...this.#asked(this.conversation), messages }));
  }

  /** Do something with the reader's last message, unless an answer is being written. */
  #withLast(run) {
    const last = path(this.conversation).findLast((message) => message.role === "user");
    if (last && !this.composer.writing) run(last);
  }

  #askForKey() {
    this.settings.open(this.conversation, "key");
    byId("key-note").hidden = false;
  }

  async #import(file) {
    try {
      const found = imported(await file.text());
      for (const conversation of found) await this.conversations.add(conversation);
      toast(`Imported ${found.length} conversation${found.length === 1 ? "" : "s"}.`);
      this.show();
    } catch (error) {
      toast(`Not imported. ${error.message}`);
    }
  }

  #removeAll() {
    const all = this.conversations.list();
    for (const conversation of all) {
      this.writings.stop(conversation);
      this.conversations.delete(conversation);
    }
    byId("settings").close();
    this.open(this.#fresh());
    const undo = () => {
      for (const conversation of all) this.conversations.add(conversation);
      this.show();
    };
    toast("Deleted all conversations.", { label: "Undo", run: undo });
  }
}

new Page().start();
