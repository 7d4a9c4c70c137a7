// Runs before the first paint, so that a chosen theme does not flash; theme.js does the rest.

try {
  const theme = JSON.parse(localStorage.getItem("llamero.theme"));
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // no storage: as the system has it
}
