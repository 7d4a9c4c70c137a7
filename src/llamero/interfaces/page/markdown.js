// Markdown as elements: markdown-it finds the structure, and each of its tokens becomes an element of a fixed list.
//
// No HTML is ever written or parsed: HTML in the text stays text. Pictures are shown as links, never loaded.

import MarkdownIt from "./vendor/markdown-it.js";
import { CodeBlock } from "./code.js";
import { make } from "./dom.js";

const parser = new MarkdownIt({ html: false, linkify: true });
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
parser.validateLink = (address) => safeAddress(address) !== null;

const PLAIN = new Set(["p", "blockquote", "ul", "ol", "li", "thead", "tbody", "tr", "th", "td", "em", "strong", "s"]);
const DIRECTED = new Set(["p", "blockquote", "ul", "ol"]); // written from the left or from the right
const SCHEMES = new Set(["http:", "https:", "mailto:"]);

/**
 * A text that may still grow, shown as Markdown in `element`. What is appended changes the last outermost block at most,
 * or the one before, which a line that is not yet whole may turn out to go on with ("2" after a list, then "2. x");
 * what stands before them is neither parsed nor built again.
 */
export class Markdown {
  element = make("div", { class: "markdown" });
  #end = 0; // where the last blocks begin
  #last = []; // those: {source, code (its CodeBlock, or null), nodes}

  /** Show the text, which begins as the one before. */
  update(text) {
    const rest = text.slice(this.#end);
    const blocks = topLevel(parser.parse(rest, {}), rest);
    let same = 0;
    while (same < blocks.length && this.#last[same]?.source === blocks[same].source) same++;
    if (same < blocks.length && grow(this.#last[same], blocks[same])) same++;
    for (const { nodes } of this.#last.splice(same)) for (const node of nodes) node.remove();
    for (const { source, tokens } of blocks.slice(same)) {
      const fragment = document.createDocumentFragment();
      const code = tokens[0].type === "fence" ? codeBlock(tokens[0]) : null;
      if (code) fragment.append(code.element);
      else build(tokens, fragment);
      this.#last.push({ source, code, nodes: [...fragment.childNodes] });
      this.element.append(fragment);
    }
    const done = Math.max(0, blocks.length - 2);
    this.#end += blocks[done]?.start ?? 0;
    this.#last.splice(0, done);
  }

  /** The text is whole: where links are defined in it, build it once more, for they may be defined after their use. */
  settle(text) {
    if (/^ {0,3}\[[^\]]+\]:/m.test(text)) {
      this.element.replaceChildren();
      this.#end = 0;
      this.#last = [];
    }
    this.update(text);
    for (const { code } of this.#last) code?.show(code.text);
  }
}

/** Where a block is code that goes on with what is shown, let it grow: true where that was done. */
function grow(shown, { source, tokens: [token] }) {
  if (!shown?.code || token.type !== "fence" || languageOf(token) !== shown.code.language) return false;
  shown.source = source;
  shown.code.grow(textOf(token), token.content.endsWith("\n"));
  return true;
}

/** The outermost blocks of a text: {source, start (a place in the text), tokens}. */
function topLevel(tokens, text) {
  const lines = text.split("\n");
  const blocks = [];
  let open = [];
  let depth = 0;
  let [line, start] = [0, 0];
  for (const token of tokens) {
    open.push(token);
    depth += token.nesting;
    if (depth > 0) continue;
    const [first, end] = open[0].map;
    while (line < first) start += lines[line++].length + 1;
    blocks.push({ source: `${open[0].type} ${lines.slice(first, end).join("\n")}`, start, tokens: open });
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
  if (token.type === "heading_open") return make(`h${Math.min(6, Number(token.tag.slice(1)) + 2)}`, { class: token.tag, dir: "auto" });
  if (token.type === "link_open") return link(token.attrGet("href"), token.attrGet("title"));
  if (token.type === "table_open") {
    const inner = make("table", { dir: "auto" });
    return { outer: make("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "Table" }, inner), inner };
  }
  if (!PLAIN.has(token.tag)) return make("span");
  const side = /^text-align:(left|center|right)$/.exec(token.attrGet("style") ?? "");
  const start = token.tag === "ol" ? token.attrGet("start") : null;
  const dir = DIRECTED.has(token.tag) ? "auto" : null;
  return make(token.tag, { class: side ? `align-${side[1]}` : null, start, dir });
}

function leaf(token) {
  switch (token.type) {
    case "code_inline":
      return make("code", {}, token.content);
    case "fence":
    case "code_block":
      return codeBlock(token).element;
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

function codeBlock(token) {
  const block = new CodeBlock(languageOf(token));
  block.show(textOf(token));
  return block;
}

function languageOf(token) {
  return token.info.trim().split(/\s+/)[0].slice(0, 40);
}

function textOf(token) {
  return token.content.replace(/\n$/, "");
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
