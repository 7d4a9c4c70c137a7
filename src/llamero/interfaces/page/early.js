// Runs before the first paint, so that neither another theme nor the list of conversations flashes: theme.js and
// frame.js do the rest.

const remembered = (name) => {
  try {
    return JSON.parse(localStorage.getItem(`llamero.${name}`));
  } catch {
    return null; // no storage: as the system has it
  }
};

const theme = remembered("theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
const wide = !matchMedia("(max-width: 48rem)").matches;
document.documentElement.classList.toggle("sidebar-open", wide && remembered("sidebar") !== false);
