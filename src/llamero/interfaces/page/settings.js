// The sheet of settings: of this conversation, of new ones, of the page, and the key for the server.

import { applyTheme } from "./theme.js";
import { byId, make } from "./dom.js";
import { preferences } from "./preferences.js";
import { FIELDS, OVERFLOWS, checkedSettings } from "./sampling.js";
import { toast } from "./announcer.js";

export class SettingsSheet {
  #conversation = null;
  #inputs = new Map(); // name -> input

  /** actions: changed(conversation), keyChanged(), exportAll(), importFile(file), removeAll(). */
  constructor(actions) {
    this.actions = actions;
    this.sheet = byId("settings");
    this.system = byId("system");
    this.stop = byId("stop-texts");
    this.overflow = byId("overflow");
    this.logprobs = byId("logprobs");
    byId("fields").append(...FIELDS.map((field) => this.#field(field)));
    this.overflow.append(...Object.entries(OVERFLOWS).map(([value, label]) => make("option", { value }, label)));
    for (const input of [this.system, this.stop, this.overflow, this.logprobs]) input.addEventListener("change", () => this.#take());
    this.#buttons();
    this.#appearance();
    this.#key();
  }

  /** Open it for a conversation. focus: the id of the part to begin at. */
  open(conversation, focus = "system") {
    if (this.sheet.open) return byId(focus).focus(); // what is being typed stays
    this.#conversation = conversation;
    this.#fill(conversation.system, conversation.settings);
    byId("key").value = preferences.key();
    byId("remember-key").checked = preferences.remembersKey();
    this.sheet.showModal();
    byId(focus).focus();
  }

  #field(field) {
    const id = `setting-${field.name}`;
    const usual = field.usual === null ? "none" : String(field.usual);
    const { min, max, step } = field;
    const input = make("input", { id, type: "number", min, max, step: field.whole ? step : "any", placeholder: usual, inputmode: "decimal", "aria-describedby": `${id}-help` });
    input.addEventListener("change", () => this.#take());
    this.#inputs.set(field.name, input);
    return make("div", { class: "field" }, make("label", { for: id }, field.label), input, make("p", { class: "help", id: `${id}-help` }, field.help));
  }

  #fill(system, settings) {
    this.system.value = system;
    for (const [name, input] of this.#inputs) input.value = settings[name] ?? "";
    this.stop.value = (settings.stop ?? []).join("\n");
    this.overflow.value = settings.overflow ?? "truncate";
    this.logprobs.value = String(settings.logprobs ?? 5);
  }

  /** What the sheet says becomes the conversation's. */
  #take() {
    const given = { overflow: this.overflow.value, logprobs: Number(this.logprobs.value) };
    const stop = this.stop.value.split("\n").filter(Boolean);
    if (stop.length) given.stop = stop;
    for (const [name, input] of this.#inputs) if (input.value !== "") given[name] = Number(input.value);
    const settings = checkedSettings(given);
    for (const [name, input] of this.#inputs) {
      const refused = (input.value !== "" || input.validity.badInput) && !(name in settings);
      input.setAttribute("aria-invalid", String(refused));
      input.setCustomValidity(refused ? `From ${input.min} to ${input.max}` : "");
      if (refused) input.reportValidity();
    }
    Object.assign(this.#conversation, { system: this.system.value, settings });
    this.actions.changed(this.#conversation);
  }

  #buttons() {
    byId("as-default").addEventListener("click", () => {
      const { system, settings } = this.#conversation;
      preferences.set("defaults", { system, settings });
      toast("New chats will begin with these settings.");
    });
    byId("reset").addEventListener("click", () => {
      this.#fill("", {});
      this.#take();
    });
    byId("export").addEventListener("click", () => this.actions.exportAll());
    byId("remove-all").addEventListener("click", () => this.actions.removeAll());
    const file = byId("import-file");
    byId("import").addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      if (file.files[0]) this.actions.importFile(file.files[0]);
      file.value = "";
    });
  }

  #appearance() {
    const chosen = document.querySelector(`input[name="theme"][value="${preferences.get("theme")}"]`);
    if (chosen) chosen.checked = true;
    for (const radio of document.querySelectorAll('input[name="theme"]')) {
      radio.addEventListener("change", () => {
        preferences.set("theme", radio.value);
        applyTheme();
      });
    }
  }

  #key() {
    const save = () => {
      preferences.setKey(byId("key").value.trim(), byId("remember-key").checked);
      this.actions.keyChanged();
    };
    const saveChanged = () => byId("key").value.trim() !== preferences.key() && save(); // Enter has saved what it changed
    byId("key").addEventListener("change", saveChanged);
    byId("remember-key").addEventListener("change", save);
    byId("key").addEventListener("keydown", (event) => {
      if (event.key === "Enter") (event.preventDefault(), save(), this.sheet.close());
    });
  }
}
