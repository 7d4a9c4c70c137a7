// Markdown as elements: markdown-it finds the structure, and each of its tokens becomes an element of a fixed list.
//
// No HTML is ever written or parsed: HTML in the text stays text. Pictures are shown as links, never loaded.

import MarkdownIt from "./vendor/markdown-it.js";
import { codeBlock } from "./code.js";
import { make } from "./dom.js";

const parser = new MarkdownIt({ html: false, linkify: true });
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
parser.validateLink = (address) => safeAddress(address) !== null;

const PLAIN = new Set(["p", "blockquote", "ul", "ol", "li", "thead", "tbody", "tr", "th", "td", "em", "strong", "s"]);
const SCHEMES = new Set(["http:", "https:", "mailto:"]);

/** A text that may still grow, shown as Markdown in `element`. Blocks that did not change keep their elements. */
export class Markdown {
  element = make("div", { class: "markdown" });
  #blocks = []; // {key, nodes}

  update(text) {
    const blocks = topLevel(parser.parse(text, {}), text.split("\n"));
    let same = 0;
    while (same < blocks.length && this.#blocks[same]?.key === blocks[same].key) same++;
    for (const old of this.#blocks.splice(same)) for (const node of old.nodes) node.remove();
    for (const { key, tokens } of blocks.slice(same)) {
      const fragment = document.createDocumentFragment();
      build(tokens, fragment);
      this.#blocks.push({ key, nodes: [...fragment.childNodes] });
      this.element.append(fragment);
    }
  }

  /** The text is whole: build it once more, for a link may be defined after its use. */
  settle(text) {
    if (/^ {0,3}\[[^\]]+\]:/m.test(text)) this.#blocks.splice(0).forEach(({ nodes }) => nodes.forEach((node) => node.remove()));
    this.update(text);
  }
}

/** The tokens of each outermost block, with its source as a key. */
function topLevel(tokens, lines) {
  const blocks = [];
  let open = [];
  let depth = 0;
  for (const token of tokens) {
    open.push(token);
    depth += token.nesting;
    if (depth > 0) continue;
    const [start, end] = open[0].map ?? [0, 0];
    blocks.push({ key: `${open[0].type} ${lines.slice(start, end).join("\n")}`, tokens: open });
    open = [];
  }
  return blocks;
}

function build(tokens, parent) {
  const stack = [parent];
  for (const token of tokens) {
    if (token.hidden) continue; // the paragraphs of a tight list
    if (token.type === "inline") {
      build(token.children, stack.at(-1));
    } else if (token.nesting > 0) {
      const element = opened(token);
      stack.at(-1).append(element.outer ?? element);
      stack.push(element.outer ? element.inner : element);
    } else if (token.nesting < 0) {
      stack.pop();
    } else {
      stack.at(-1).append(leaf(token));
    }
  }
}

function opened(token) {
  if (token.type === "heading_open") return make(`h${Math.min(6, Number(token.tag.slice(1)) + 2)}`, { class: token.tag });
  if (token.type === "link_open") return link(token.attrGet("href"), token.attrGet("title"));
  if (token.type === "table_open") {
    const inner = make("table");
    return { outer: make("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "Table" }, inner), inner };
  }
  if (!PLAIN.has(token.tag)) return make("span");
  const side = /^text-align:(left|center|right)$/.exec(token.attrGet("style") ?? "");
  const start = token.tag === "ol" ? token.attrGet("start") : null;
  return make(token.tag, { class: side ? `align-${side[1]}` : null, start });
}

function leaf(token) {
  switch (token.type) {
    case "code_inline":
      return make("code", {}, token.content);
    case "fence":
      return codeBlock(token.content, token.info.trim().split(/\s+/)[0]);
    case "code_block":
      return codeBlock(token.content, "");
    case "hr":
    case "hardbreak":
      return make(token.tag);
    case "softbreak":
      return document.createTextNode("\n");
    case "image":
      return picture(token);
    default:
      return document.createTextNode(token.content);
  }
}

function picture(token) {
  const name = token.content || "picture";
  const address = safeAddress(token.attrGet("src"));
  const words = `Picture, not loaded: ${name}`;
  return address ? make("span", { class: "picture" }, link(address, null, words)) : make("span", { class: "picture" }, words);
}

function link(address, title, ...children) {
  const href = safeAddress(address);
  if (!href) return make("span", {}, ...children);
  const safe = { target: "_blank", rel: "noopener noreferrer nofollow", referrerpolicy: "no-referrer" };
  return make("a", { href, title: title ? `${title} (${href})` : href, ...safe }, ...children);
}

/** An address that may be followed: whole, of the web or of mail; null for every other. */
export function safeAddress(address) {
  try {
    const url = new URL(address);
    return SCHEMES.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
