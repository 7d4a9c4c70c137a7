// A conversation: a tree of messages in which one path is being read. Pure data; what it holds is what is saved.
//
// conversation: {id, title, named (by its owner), created, updated (ms), model, system, settings,
//                messages: [message] in the order they came, chosen: {parent id or "": child id}}
// message:      {id, parent ("" at the root), role, content, created, ...} and, for answers, what writing.js notes

/** An id that nothing else has. (crypto.randomUUID is withheld from pages that came over plain HTTP.) */
export function freshId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A conversation with nothing in it. */
export function emptyConversation({ model = "", system = "", settings = {} } = {}) {
  const now = Date.now();
  return {
    id: freshId(),
    title: "New chat",
    named: false,
    created: now,
    updated: now,
    model,
    system,
    settings: { ...settings },
    messages: [],
    chosen: {},
  };
}

/** The message of an id, or undefined. */
export function find(conversation, id) {
  return conversation.messages.find((message) => message.id === id);
}

/** What follows a message ("" is the beginning), oldest first. */
export function children(conversation, parent) {
  return conversation.messages.filter((message) => message.parent === parent);
}

/** The message that is read after another, or undefined. */
function next(conversation, parent) {
  const following = children(conversation, parent);
  return following.find((message) => message.id === conversation.chosen[parent]) ?? following.at(-1);
}

/** The messages being read, first to last. */
export function path(conversation) {
  const found = [];
  for (let message = next(conversation, ""); message; message = next(conversation, message.id)) found.push(message);
  return found;
}

/** The messages from the beginning to one of them, inclusive. */
export function pathTo(conversation, id) {
  const found = [];
  for (let message = find(conversation, id); message; message = find(conversation, message.parent)) {
    found.unshift(message);
  }
  return found;
}

/** Put a message after `parent` and read on with it; returns it. */
export function add(conversation, parent, role, content = "") {
  const message = { id: freshId(), parent, role, content, created: Date.now() };
  conversation.messages.push(message);
  conversation.chosen[parent] = message.id;
  touch(conversation);
  return message;
}

/** Read another version of a message; how many there are is `versions`. */
export function choose(conversation, id) {
  const message = find(conversation, id);
  conversation.chosen[message.parent] = id;
}

/** A message among those that could stand in its place: {index, all}. */
export function versions(conversation, message) {
  const all = children(conversation, message.parent);
  return { index: all.findIndex((other) => other.id === message.id), all };
}

/** Take a message and all that follows it out. */
export function remove(conversation, id) {
  const gone = new Set([id]);
  for (const message of conversation.messages) if (gone.has(message.parent)) gone.add(message.id);
  conversation.messages = conversation.messages.filter((message) => !gone.has(message.id));
  touch(conversation);
}

/** Put back what was taken out since `before`, its messages then, and read on with the message of an id. */
export function putBack(conversation, before, id) {
  const known = new Set(before.map((message) => message.id));
  conversation.messages = [...before, ...conversation.messages.filter((message) => !known.has(message.id))];
  choose(conversation, id);
  touch(conversation);
}

/**
 * Take in what another tab made of a conversation; our messages stay the same objects. A message only grows, so of two
 * the longer is the newer. writing: ids of those being written here; while there are any, none of ours is taken for
 * deleted. True where ours is ahead, and the other tab should be told.
 */
export function takeIn(ours, { messages, chosen, ...rest }, writing) {
  const own = new Map(ours.messages.map((message) => [message.id, message]));
  let ahead = false;
  const together = messages.map((theirs) => {
    const mine = own.get(theirs.id);
    own.delete(theirs.id);
    if (!mine || writing.has(mine.id)) return mine ?? theirs;
    const newer = mine.content.length > theirs.content.length || Boolean(mine.finish && !theirs.finish);
    ahead ||= newer;
    return newer ? mine : Object.assign(mine, theirs);
  });
  Object.assign(ours, rest);
  ours.messages = writing.size ? [...together, ...own.values()] : together;
  ours.chosen = writing.size ? { ...chosen, ...ours.chosen } : chosen;
  return ahead;
}

/** A new conversation that begins with the messages up to one of them. */
export function branch(conversation, id) {
  const copy = { ...emptyConversation(conversation), title: conversation.title, named: conversation.named };
  copy.messages = pathTo(conversation, id).map((message) => structuredClone(message));
  return copy;
}

/** Note that it was changed now, and name it after its first words unless its owner has. */
export function touch(conversation) {
  conversation.updated = Date.now();
  const first = conversation.messages.find((message) => message.role === "user");
  if (!conversation.named && first) conversation.title = shortened(first.content);
}

function shortened(text) {
  const line = text.slice(0, 500).replace(/\s+/g, " ").trim();
  const characters = Array.from(line);
  return characters.length > 60 ? `${characters.slice(0, 59).join("").trimEnd()}…` : line || "New chat";
}
