// What must be done before the first paint: sets the chosen colours, and shows the end of a conversation, long before the rest of
// the page is alive. A file of its own, because the page's policy allows no inline script.
(() => {
  document.addEventListener(
    "readystatechange",
    () => {
      const conversation = document.querySelector(".chat__scroll");
      if (conversation) conversation.scrollTop = conversation.scrollHeight;
    },
    { once: true },
  );
  try {
    const theme = localStorage.getItem("verbatim.theme");
    if (theme === "light" || theme === "dark") document.documentElement.setAttribute("data-theme", theme);
  } catch {
    // Storage is switched off: the system's choice stands.
  }
})();
