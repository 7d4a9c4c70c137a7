// The prompt inspector: what the model really reads. Text and ids, where each span came from, what was found in the
// cache, and what was left out.

import { byId, make } from "./dom.js";
import { counted } from "./figures.js";
import { hidePopover, walkable } from "./popover.js";
import { shown, spoken } from "./tokens.js";

const ORIGINS = {
  template: "Template",
  system: "System prompt",
  user: "You",
  assistant: "Llama",
  tool: "Tool results",
  tools: "Tool descriptions",
  variable: "Template variables",
  unknown: "Not known",
};

export class Inspector {
  #abort = null;

  constructor(server) {
    this.server = server;
    this.sheet = byId("inspector");
    this.summary = byId("inspector-summary");
    this.legend = byId("inspector-legend");
    this.dropped = byId("inspector-dropped");
    this.text = byId("inspector-text");
    this.sheet.addEventListener("close", () => (hidePopover(), this.#abort?.abort()));
    for (const radio of document.querySelectorAll('input[name="inspector-view"]')) {
      radio.addEventListener("change", () => this.text.classList.toggle("ids", radio.value === "ids"));
    }
  }

  /** Show the prompt of a chat request. sent: the figures of the answer to it, where it has been sent. */
  async open(body, sent = null) {
    this.#abort?.abort();
    this.#abort = new AbortController();
    for (const part of [this.legend, this.dropped, this.text]) part.replaceChildren();
    this.summary.replaceChildren(make("p", {}, "Asking the server…"));
    if (!this.sheet.open) this.sheet.showModal();
    try {
      this.#show(await this.server.inspect(body, this.#abort.signal), body.messages, sent);
    } catch (error) {
      if (error.name !== "AbortError") this.summary.replaceChildren(make("p", { class: "error", role: "alert" }, error.message));
    }
  }

  #show(found, messages, sent) {
    const { prompt_tokens: all, cached_tokens: cached, dropped_tokens: dropped, context } = found;
    const facts = [
      ["Model", found.model],
      ["Template", found.template === "custom" ? "the model's own" : found.template],
      ["Prompt", `${counted(all, "token")} of ${context}`],
      ["In the cache now", counted(cached, "token")],
      ...(sent?.cached !== undefined ? [["In the cache when sent", counted(sent.cached, "token")]] : []),
      ["Left out", counted(dropped, "token")],
    ];
    this.summary.replaceChildren(
      make("dl", { class: "facts" }, ...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
      meter(all, cached, context),
      ...(found.error ? [make("p", { class: "error", role: "alert" }, found.error)] : []),
    );
    this.#showDropped(found.dropped_messages, messages);
    this.#showText(found);
  }

  #showDropped(places, messages) {
    if (!places.length) return;
    const items = places.map((place) => make("li", {}, make("b", {}, messages[place].role), " ", make("del", {}, messages[place].content)));
    this.dropped.replaceChildren(make("h3", {}, `Left out: ${counted(places.length, "message")}`), make("ul", {}, ...items));
  }

  #showText(found) {
    const text = Array.from(found.text); // places count characters, not UTF-16
    const counts = new Map();
    const elements = [];
    let shownTo = 0; // a character of several tokens stands at the first of them
    for (const [index, token] of found.tokens.entries()) {
      const spans = spansOf(found, token);
      const origin = spans[0]?.origin ?? "template";
      counts.set(origin, (counts.get(origin) ?? 0) + 1);
      const piece = ({ start, end }) => text.slice(Math.max(start, token.start, shownTo), Math.min(end, token.end)).join("");
      const pieces = spans.map((span) => [span.origin, piece(span)]).filter(([, words]) => words);
      shownTo = token.end;
      elements.push(tokenElement(index, token, pieces.length ? pieces : [[origin, token.text]]));
      if (token.text.endsWith("\n")) elements.push(make("br"));
    }
    const words = "Tokens of the prompt; arrow keys walk over them";
    const list = make("div", { class: "prompt-tokens", role: "group", "aria-label": words }, ...elements);
    walkable(list, ".prompt-token", (element) => describe(found, Number(element.dataset.index)));
    this.text.replaceChildren(list);
    this.#showLegend(counts);
  }

  #showLegend(counts) {
    const toggle = (event) => {
      const button = event.currentTarget;
      const alone = button.getAttribute("aria-pressed") !== "true";
      for (const other of this.legend.querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", String(alone));
      if (alone) this.text.dataset.only = button.dataset.origin;
      else delete this.text.dataset.only;
    };
    delete this.text.dataset.only;
    this.legend.replaceChildren(
      ...[...counts].map(([origin, count]) =>
        make(
          "button",
          { type: "button", class: `legend origin-${origin}`, "data-origin": origin, "aria-pressed": "false", on: { click: toggle } },
          `${ORIGINS[origin] ?? origin} ${count}`,
        ),
      ),
    );
  }
}

/** The spans that a token has a part in. Spans are in order and cover the text. */
function spansOf({ spans }, { start, end }) {
  let low = 0;
  for (let high = spans.length; low < high; ) {
    const middle = (low + high) >> 1;
    if (spans[middle].end <= start) low = middle + 1;
    else high = middle;
  }
  const found = [];
  for (; low < spans.length && spans[low].start < end; low++) found.push(spans[low]);
  return found;
}

function tokenElement(index, token, pieces) {
  const states = ["special", "cached", "dropped"].filter((state) => token[state]);
  const parts = pieces.map(([origin, text]) => make("span", { class: `origin-${origin}` }, shown(text)));
  const id = make("span", { class: "token-id" }, String(token.id));
  const own = { class: ["prompt-token", ...states].join(" "), tabindex: index ? -1 : 0, "data-index": index };
  return make("span", { ...own, role: "img", "aria-label": spoken(token.text) }, ...parts, id);
}

function meter(all, cached, context) {
  const bar = make("div", { class: "meter", role: "img", "aria-label": `${all} of ${context} tokens of the context, ${cached} cached` });
  for (const [name, share] of [["cached", cached], ["read", all - cached]]) {
    const part = make("span", { class: `meter-${name}` });
    part.style.width = `${(100 * share) / context}%`;
    bar.append(part);
  }
  return bar;
}

function describe(found, index) {
  const token = found.tokens[index];
  const from = [...new Set(spansOf(found, token).map(({ origin, message }) => (message === null ? ORIGINS[origin] : `${ORIGINS[origin]}, message ${message + 1}`)))];
  const state = token.dropped ? "left out" : token.cached ? "in the cache" : "to be read";
  const rows = [["Token", shown(token.text).replaceAll(" ", "␣")], ["Id", String(token.id)], ["Place", String(index)], ["From", from.join("; ") || ORIGINS.template], ["State", state]];
  const content = make("dl", { class: "facts small" }, ...rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  return { content, label: rows.map(([name, value]) => `${name} ${value}`).join(", ") };
}
