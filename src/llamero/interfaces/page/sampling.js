// The settings of sampling: their names in the API, their ranges, and what they mean in a few words. Pure data.

/** name: as the API takes it; usual: what the server does when it is not sent. */
export const FIELDS = [
  { name: "temperature", label: "Temperature", usual: 0.6, min: 0, max: 2, step: 0.05,
    help: "0 always takes the likeliest token; higher is more varied." },
  { name: "top_p", label: "Top p", usual: 0.9, min: 0, max: 1, step: 0.01,
    help: "Choose among the fewest tokens that hold this probability; 1 is off." },
  { name: "top_k", label: "Top k", usual: 0, min: 0, max: 1000, step: 1, whole: true,
    help: "Choose among so many likeliest tokens; 0 is off." },
  { name: "min_p", label: "Min p", usual: 0, min: 0, max: 1, step: 0.01,
    help: "Leave out tokens below this share of the likeliest; 0 is off." },
  { name: "typical_p", label: "Typical p", usual: 1, min: 0, max: 1, step: 0.01,
    help: "Choose among the tokens nearest the expected information; 1 is off." },
  { name: "repeat_penalty", label: "Repeat penalty", usual: 1, min: 0.5, max: 2, step: 0.01,
    help: "Makes recent tokens less likely; 1 is off." },
  { name: "presence_penalty", label: "Presence penalty", usual: 0, min: -2, max: 2, step: 0.1,
    help: "Subtracted once from tokens the answer already holds." },
  { name: "frequency_penalty", label: "Frequency penalty", usual: 0, min: -2, max: 2, step: 0.1,
    help: "Subtracted for each time the answer holds a token." },
  { name: "max_tokens", label: "Longest answer", usual: null, min: 1, max: 1_000_000, step: 1, whole: true,
    help: "Tokens; empty is as many as the context has room for." },
  { name: "seed", label: "Seed", usual: null, min: 0, max: 2 ** 53 - 1, step: 1, whole: true,
    help: "The same seed gives the same answer; empty draws a fresh one." },
];

export const OVERFLOWS = { truncate: "Leave out the oldest", error: "Say so and stop" };

/** A copy with only what this page knows, each within its range; everything else is left out. */
export function checkedSettings(given) {
  const settings = {};
  for (const field of FIELDS) {
    const value = given[field.name];
    if (Number.isFinite(value) && value >= field.min && value <= field.max && !(field.whole && !Number.isInteger(value))) {
      settings[field.name] = value;
    }
  }
  if (Array.isArray(given.stop)) settings.stop = given.stop.filter((text) => typeof text === "string" && text).slice(0, 16);
  if (Object.hasOwn(OVERFLOWS, given.overflow)) settings.overflow = given.overflow;
  if (Number.isInteger(given.logprobs) && given.logprobs >= 0 && given.logprobs <= 20) settings.logprobs = given.logprobs;
  return settings;
}

/** The body of a chat request. logprobs: how many alternatives to each token are asked for; 0 asks for none. */
export function chatBody({ model, system, settings, messages }) {
  const { logprobs = 5, overflow = "truncate", stop, ...rest } = settings;
  const said = messages.map(({ role, content }) => ({ role, content }));
  const body = { messages: system.trim() ? [{ role: "system", content: system }, ...said] : said, ...rest };
  if (model) body.model = model; // else the server's first
  if (stop?.length) body.stop = stop;
  if (logprobs) Object.assign(body, { logprobs: true, top_logprobs: logprobs });
  return { ...body, overflow };
}
