// The clipboard, also where the page came over plain HTTP from another machine and browsers withhold the new interface.

import { make } from "./dom.js";

/** Copy a text; true where it worked. */
export async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // not allowed: the old way below
    }
  }
  const box = make("textarea", { class: "off-screen", "aria-hidden": "true", tabindex: -1 });
  box.value = text;
  const before = document.activeElement;
  (document.querySelector("dialog[open]") ?? document.body).append(box);
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  before?.focus();
  return done;
}
