// A small window beside what is pointed at; only one is open at a time.

import { byId } from "./dom.js";

const GAP = 6; // px

/** Show `content` beside `anchor`, above it where there is no room below. */
export function showPopover(anchor, content) {
  const box = byId("popover");
  box.replaceChildren(content);
  if (!box.matches(":popover-open")) box.showPopover();
  const place = anchor.getClientRects()[0] ?? anchor.getBoundingClientRect();
  const { width, height } = box.getBoundingClientRect();
  const left = Math.max(GAP, Math.min(place.left, window.innerWidth - width - GAP));
  const below = place.bottom + GAP;
  const top = below + height > window.innerHeight ? Math.max(GAP, place.top - height - GAP) : below;
  box.style.left = `${left}px`;
  box.style.top = `${top}px`;
}

export function hidePopover() {
  const box = byId("popover");
  if (box.matches(":popover-open")) box.hidePopover();
}

/**
 * Let pointer, touch and arrow keys walk over the children of `list` that match `selector`; each shows what
 * `describe(child)` gives, {content, label}. One child at a time takes part in the tab order.
 */
export function walkable(list, selector, describe) {
  const show = (child) => {
    const { content, label } = describe(child);
    child.setAttribute("aria-label", label);
    showPopover(child, content);
  };
  const at = (event) => event.target.closest(selector);
  list.addEventListener("pointerover", (event) => at(event) && show(at(event)));
  list.addEventListener("pointerleave", hidePopover);
  list.addEventListener("focusin", (event) => {
    if (!at(event)) return;
    for (const other of list.querySelectorAll(`${selector}[tabindex="0"]`)) other.tabIndex = -1;
    at(event).tabIndex = 0;
    show(at(event));
  });
  list.addEventListener("focusout", hidePopover);
  list.addEventListener("wheel", hidePopover, { passive: true }); // what it stood beside moves away
  list.addEventListener("touchmove", hidePopover, { passive: true });
  list.addEventListener("keydown", (event) => {
    const all = [...list.querySelectorAll(selector)];
    const here = all.indexOf(at(event));
    const next = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: all.length - 1 }[event.key];
    if (next === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    all[Math.max(0, Math.min(next, all.length - 1))]?.focus();
  });
}
