// An answer as its tokens, tinted by how likely the model found each; pointing at one shows what else it could have been.

import { make } from "./dom.js";
import { percent } from "./figures.js";
import { walkable } from "./popover.js";

/** The view of [[text, logprob, [[text, logprob], ...]], ...]. */
export function tokenView(tokens) {
  const view = make("div", { class: "tokens", role: "group", "aria-label": "Tokens with their probabilities; arrow keys walk over them" });
  for (const [index, [text, logprob]] of tokens.entries()) {
    const share = Math.exp(logprob);
    const own = { class: `token tint-${tintOf(share)}`, "data-index": index, tabindex: index ? -1 : 0 };
    view.append(make("span", { ...own, role: "img", "aria-label": `${spoken(text)}, ${percent(share)}` }, shown(text)));
    if (text.endsWith("\n")) view.append(make("br"));
  }
  walkable(view, ".token", (span) => describe(tokens[Number(span.dataset.index)]));
  return view;
}

/** Line breaks made visible, so that a token of nothing else can be pointed at. */
export function shown(text) {
  return text.replaceAll("\n", "⏎") || "∅";
}

/** The same as a name that can be said. */
export function spoken(text) {
  return shown(text).trim() || "space";
}

/** 0 (certain) to 5 (unlikely). */
function tintOf(probability) {
  return [0.9, 0.6, 0.35, 0.15, 0.05].filter((bound) => probability < bound).length;
}

function describe([text, logprob, others]) {
  const rows = others.some(([other]) => other === text) ? others : [[text, logprob], ...others];
  const list = make("ol", { class: "chances" }, ...rows.map(([other, value]) => row(other, value, other === text)));
  const rest = 1 - rows.reduce((sum, [, value]) => sum + Math.exp(value), 0);
  if (rest > 0.0005) list.append(make("li", { class: "chance rest" }, make("span", {}, "all others"), make("span", {}, percent(rest))));
  const instead = rows.filter(([other]) => other !== text).map(([other, value]) => `${spoken(other)} ${percent(Math.exp(value))}`);
  const label = `${spoken(text)}, ${percent(Math.exp(logprob))}${instead.length ? `; instead: ${instead.join(", ")}` : ""}`;
  return { content: make("div", {}, make("p", { class: "popover-title" }, "Chosen here, and its alternatives"), list), label };
}

function row(text, logprob, chosen) {
  const share = Math.exp(logprob);
  const bar = make("span", { class: "bar" });
  bar.style.width = `${Math.max(1, share * 100)}%`;
  const piece = make("code", {}, shown(text).replaceAll(" ", "␣"));
  return make("li", { class: chosen ? "chance chosen" : "chance" }, bar, piece, make("span", {}, percent(share)));
}
