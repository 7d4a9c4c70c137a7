// Light, dark, or as the system has it.

import { preferences } from "./preferences.js";

/** Show the page in the chosen theme. */
export function applyTheme() {
  const theme = preferences.get("theme");
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
