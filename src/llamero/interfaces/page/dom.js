// Elements, made one by one: the page never turns a string into HTML.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `properties`: `class`, `on` (event name to listener), true and false for attributes without a value;
 * everything else is an attribute. Children are elements, texts, or null for nothing.
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** One of the drawings at the end of index.html; nothing to a screen reader. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows a drawing and is named by `label`, to the eye when it is pointed at. */
export function iconButton(name, label, listener, properties = {}) {
  return make(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, on: { click: listener }, ...properties },
    icon(name),
  );
}

/** The element of index.html with an id. */
export function byId(id) {
  return document.getElementById(id);
}
