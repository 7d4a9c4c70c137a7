// The frame of the page: the list of conversations beside it or over it, and the dialogs, which close alike.

import { byId } from "./dom.js";
import { preferences } from "./preferences.js";

const NARROW = matchMedia("(max-width: 48rem)"); // as in layout.css: the list lies over the page

export class Frame {
  constructor() {
    byId("toggle-sidebar").addEventListener("click", () => this.toggle());
    byId("scrim").addEventListener("click", () => this.toggle(false));
    for (const dialog of document.querySelectorAll("dialog")) {
      dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside the sheet
      for (const button of dialog.querySelectorAll(".close")) button.addEventListener("click", () => dialog.close());
    }
    NARROW.addEventListener("change", () => this.#fit());
    this.#fit();
  }

  /** Whether the list lies over the page now. */
  get covered() {
    return NARROW.matches && this.#open;
  }

  /** Show or hide the list of conversations. Over the page it takes the focus, and gives it back. */
  toggle(open = !this.#open) {
    const changed = open !== this.#open;
    this.#set(open);
    if (!NARROW.matches) preferences.set("sidebar", open);
    else if (changed) byId(open ? "new-chat" : "toggle-sidebar").focus();
  }

  get #open() {
    return document.documentElement.classList.contains("sidebar-open");
  }

  #set(open) {
    document.documentElement.classList.toggle("sidebar-open", open);
    byId("toggle-sidebar").setAttribute("aria-expanded", String(open));
    byId("sidebar").inert = !open;
    byId("column").inert = this.covered;
  }

  #fit() {
    this.#set(!NARROW.matches && preferences.get("sidebar"));
  }
}
