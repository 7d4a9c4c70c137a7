// What an answer took, in words: tokens, speed, waiting, and what the cache spared.

const number = new Intl.NumberFormat("en");

/** A number with its thousands apart. */
export function counted(value, unit) {
  return `${number.format(value)} ${unit}${value === 1 ? "" : "s"}`;
}

/** A share between 0 and 1 in percent, never rounded to certainty. */
export function percent(share) {
  if (share >= 0.9995) return share === 1 ? "100 %" : "> 99.9 %";
  if (share < 0.0005) return "< 0.1 %";
  return `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %`;
}

/** A time in the unit that suits it. */
function lasting(seconds) {
  return seconds < 1 ? `${Math.max(1, Math.round(seconds * 1000))} ms` : `${seconds.toFixed(1)} s`;
}

/** The figures of a message as short phrases with longer explanations: [{text, title}]. */
export function phrases({ figures = {}, finish, model }) {
  const { prompt, cached, completion, dropped, first, rest } = figures;
  const found = [];
  if (model) found.push({ text: model, title: "The model that wrote this" });
  if (completion) found.push({ text: counted(completion, "token"), title: "Tokens of the answer" });
  if (completion > 1 && rest > 0) {
    const speed = (completion - 1) / rest;
    const words = speed < 20 ? speed.toFixed(1) : number.format(Math.round(speed));
    found.push({ text: `${words} tokens/s`, title: "Speed after the first token" });
  }
  if (first) found.push({ text: `first after ${lasting(first)}`, title: "From sending to the first token" });
  if (prompt) {
    const reused = cached ? ` (${number.format(cached)} cached)` : "";
    found.push({ text: `prompt ${number.format(prompt)}${reused}`, title: "Tokens of the prompt, and those found in the cache" });
  }
  if (dropped) found.push({ text: `${number.format(dropped)} left out`, title: "Tokens that did not fit the context" });
  const ends = { length: "cut: no room left", stopped: "stopped" };
  if (ends[finish]) found.push({ text: ends[finish], title: "Why the answer ended" });
  return found;
}
