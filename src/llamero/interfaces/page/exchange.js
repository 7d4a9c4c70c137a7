// Conversations as a JSON file, out and in. What comes in is a stranger's: every value is checked and copied.

import { make } from "./dom.js";
import { checkedSettings } from "./sampling.js";
import { emptyConversation, freshId } from "./tree.js";

const FORMAT = "llamero-conversations";
const ROLES = new Set(["user", "assistant"]);
const FINISHES = new Set(["stop", "length", "tool_calls", "stopped", "error"]);
const MOST_CHARACTERS = 4_000_000; // of one message

/** Give the reader a file of these conversations, called after `name`. */
export function download(conversations, name) {
  const text = JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 1);
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const day = new Date().toISOString().slice(0, 10);
  const file = `llamero-${name.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40)}-${day}.json`;
  make("a", { href: address, download: file }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** The conversations in such a file, with new ids. Throws Error saying what is wrong with it. */
export function imported(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("The file is not JSON.");
  }
  if (file?.format !== FORMAT || !Array.isArray(file.conversations)) {
    throw new Error(`The file holds no conversations of llamero (its "format" is not "${FORMAT}").`);
  }
  if (file.version !== 1) throw new Error(`The file's version is ${String(file.version).slice(0, 20)}; this page reads 1.`);
  return file.conversations.map((conversation, index) => checked(conversation, `conversation ${index + 1}`));
}

function checked(given, where) {
  if (typeof given !== "object" || given === null || !Array.isArray(given.messages)) {
    throw new Error(`${where} has no messages.`);
  }
  const ids = new Map([["", ""]]);
  const copy = emptyConversation({
    model: text(given.model ?? "", `${where}, model`),
    system: text(given.system ?? "", `${where}, system`),
    settings: checkedSettings(given.settings ?? {}),
  });
  copy.title = text(given.title ?? "Imported chat", `${where}, title`).slice(0, 200);
  copy.named = given.named === true;
  copy.created = time(given.created);
  copy.updated = time(given.updated);
  copy.messages = given.messages.map((message, index) => checkedMessage(message, ids, `${where}, message ${index + 1}`));
  for (const message of copy.messages) {
    const chosen = given.chosen?.[message.parent.given];
    if (chosen === message.given) copy.chosen[message.parent.ours] = message.id;
  }
  for (const message of copy.messages) {
    message.parent = message.parent.ours;
    delete message.given;
  }
  return copy;
}

/** A message, its id and its parent's both as given and as ours. A parent comes before its children. */
function checkedMessage(given, ids, where) {
  if (!ROLES.has(given?.role)) throw new Error(`${where} is of an unknown role.`);
  const id = text(given.id, `${where}, id`);
  const parent = text(given.parent, `${where}, parent`);
  if (ids.has(id)) throw new Error(`${where} has an id that another has.`);
  if (!ids.has(parent)) throw new Error(`${where} follows a message that is not before it.`);
  ids.set(id, freshId());
  const message = {
    id: ids.get(id),
    given: id,
    parent: { given: parent, ours: ids.get(parent) },
    role: given.role,
    content: text(given.content, `${where}, content`),
    created: time(given.created),
  };
  for (const name of ["model", "error"]) if (typeof given[name] === "string") message[name] = given[name].slice(0, 2000);
  if (FINISHES.has(given.finish)) message.finish = given.finish;
  if (given.figures) message.figures = numbers(given.figures);
  if (Array.isArray(given.tokens)) message.tokens = given.tokens.map((token) => checkedToken(token, where));
  if (given.asked) {
    message.asked = {
      model: text(given.asked.model ?? "", where),
      system: text(given.asked.system ?? "", where),
      settings: checkedSettings(given.asked.settings ?? {}),
    };
  }
  return message;
}

/** A token of an answer: [text, logprob, [[text, logprob], ...]]. */
function checkedToken(token, where) {
  if (!Array.isArray(token) || !Array.isArray(token[2] ?? [])) throw new Error(`${where} has a token that is no token.`);
  const pair = ([piece, logprob]) => [text(piece, `${where}, token`), Number(logprob) || 0];
  return [...pair(token), (token[2] ?? []).slice(0, 20).map(pair)];
}

function numbers(given) {
  const found = Object.entries(given).filter(([, value]) => Number.isFinite(value));
  return Object.fromEntries(found.slice(0, 20).map(([name, value]) => [name.slice(0, 40), value]));
}

function text(value, where) {
  if (typeof value !== "string") throw new Error(`${where} is not text.`);
  if (value.length > MOST_CHARACTERS) throw new Error(`${where} is too long.`);
  return value;
}

function time(value) {
  return Number.isFinite(value) ? value : Date.now();
}
