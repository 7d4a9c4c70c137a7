// A block of code: coloured, with its language and a button that copies it.

import hljs from "./vendor/highlight.js";
import { copyText } from "./clipboard.js";
import { icon, make } from "./dom.js";

const MOST_COLOURED = 60_000; // characters; more would be felt while an answer is being written

/** Code whose text may grow: what is around it, and how far one scrolled in it, stays. */
export class CodeBlock {
  text = ""; // what is shown
  #code = make("code");

  /** language: as the text names it, or "". */
  constructor(language) {
    this.language = language;
    const words = make("span", {}, "Copy");
    const name = `Copy this code${language ? ` (${language})` : ""}`;
    const own = { type: "button", class: "code-copy", "aria-label": name, on: { click: () => this.#copy(words) } };
    const label = make("span", { class: "code-language" }, language || "text");
    const bar = make("div", { class: "code-bar" }, label, make("button", own, icon("copy"), words));
    const region = { tabindex: 0, role: "region", "aria-label": `Code${language ? `, ${language}` : ""}` };
    this.element = make("div", { class: "code" }, bar, make("pre", region, this.#code));
  }

  show(text) {
    this.text = text;
    this.#code.replaceChildren();
    const known = this.language && hljs.getLanguage(this.language) && text.length <= MOST_COLOURED;
    if (known) colour(text, this.language, this.#code);
    else this.#code.append(text);
  }

  /** Show a text that goes on from the one shown. A line gets its colours once it is whole, not with every token. */
  grow(text, whole) {
    const more = text.startsWith(this.text) ? text.slice(this.text.length) : "";
    if (whole || !more || more.includes("\n")) return this.show(text);
    this.text = text;
    return this.#code.append(more);
  }

  async #copy(words) {
    words.textContent = (await copyText(this.text)) ? "Copied" : "Could not copy";
    setTimeout(() => (words.textContent = "Copy"), 1600);
  }
}

/** highlight.js's tree of scopes as spans with classes. */
function colour(text, language, parent) {
  const tree = hljs.highlight(text, { language, ignoreIllegals: true })._emitter?.rootNode;
  if (tree) grow(tree, parent);
  else parent.append(text);
}

function grow(node, parent) {
  for (const child of node.children) {
    if (typeof child === "string") {
      parent.append(child);
    } else {
      const [first, ...rest] = (child.scope ?? "").split(".");
      const span = make("span", { class: [`hl-${first}`, ...rest.map((part) => `${part}_`)].join(" ") });
      grow(child, span);
      parent.append(span);
    }
  }
}
