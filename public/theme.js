// Sets the chosen colours before the first paint. A file of its own, because the page's policy allows no inline script.
(() => {
  try {
    const theme = localStorage.getItem("verbatim.theme");
    if (theme === "light" || theme === "dark") document.documentElement.setAttribute("data-theme", theme);
  } catch {
    // Storage is switched off: the system's choice stands.
  }
})();
