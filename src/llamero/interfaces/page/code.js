// A block of code: coloured, with its language and a button that copies it.

import hljs from "./vendor/highlight.js";
import { copyText } from "./clipboard.js";
import { icon, make } from "./dom.js";

const MOST_COLOURED = 60_000; // characters; more would be felt while an answer is being written

/** The block; `language` as the text names it, or "". */
export function codeBlock(text, language) {
  const code = make("code");
  const known = language && hljs.getLanguage(language) && text.length <= MOST_COLOURED;
  if (known) colour(text, language, code);
  else code.append(text);
  const label = make("span", { class: "code-language" }, language || "text");
  const copy = make("button", { type: "button", class: "code-copy", on: { click: () => copied(copy, text) } });
  copy.append(icon("copy"), make("span", {}, "Copy"));
  copy.setAttribute("aria-label", `Copy this code${language ? ` (${language})` : ""}`);
  const pre = make("pre", { tabindex: 0, role: "region", "aria-label": `Code${language ? `, ${language}` : ""}` }, code);
  return make("div", { class: "code" }, make("div", { class: "code-bar" }, label, copy), pre);
}

async function copied(button, text) {
  const done = await copyText(text);
  const words = button.querySelector("span");
  words.textContent = done ? "Copied" : "Could not copy";
  setTimeout(() => (words.textContent = "Copy"), 1600);
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
