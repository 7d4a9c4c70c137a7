// Light, dark, or as the system has it.

import { preferences } from "./preferences.js";

/** Show the page in the chosen theme. */
export function applyTheme(theme = preferences.get("theme")) {
  preferences.set("theme", theme);
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

/** What the page looks like now: "light" or "dark". */
export function shownTheme() {
  const chosen = preferences.get("theme");
  if (chosen !== "system") return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
