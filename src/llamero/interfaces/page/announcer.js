// What changed, said to screen readers (a polite live region), and shortly shown to everybody (a toast).

import { byId, make } from "./dom.js";

let hiding = 0;

/** Say it to screen readers only. */
export function announce(words) {
  const region = byId("announcer");
  region.textContent = "";
  requestAnimationFrame(() => (region.textContent = words)); // the same words twice are said twice
}

/** Show it for some seconds; `action` is {label, run} for a button such as Undo. */
export function toast(words, action = null) {
  const box = byId("toast");
  const button = action && make("button", { type: "button", class: "toast-action", on: { click: () => (hide(), action.run()) } }, action.label);
  const hide = () => (box.hidden = true);
  (document.querySelector("dialog[open]") ?? document.body).append(box); // above the dialog, and not inert
  box.replaceChildren(make("span", {}, words), ...(button ? [button] : []));
  box.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(hide, action ? 8000 : 4000);
}
