// What must be done before the first paint: sets the chosen colours, and shows the end of a conversation, long before the rest of
// the page is alive; and says so when the page does not come alive. A file of its own, because the page's policy allows no inline
// script.
(() => {
  const root = document.documentElement;
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
    if (theme === "light" || theme === "dark") root.setAttribute("data-theme", theme);
  } catch {
    // Storage is switched off: the system's choice stands.
  }

  // How long the page may take before it is said that it is not alive yet, in milliseconds.
  const PATIENCE = 8000;
  const WORKS = "Sessions can be read, searched and downloaded meanwhile: ";
  const isAlive = () => root.hasAttribute("data-hydrated");
  let notice;
  let isFinal = false;

  /** Says why nothing that is clicked does anything. */
  function say(text, canReload) {
    notice?.remove();
    notice = document.createElement("div");
    notice.className = "dead";
    notice.setAttribute("role", "alert");
    const link = (words, address) => {
      const element = document.createElement("a");
      element.href = address;
      element.rel = "external";
      element.textContent = words;
      return element;
    };
    notice.append(`${text} `);
    if (canReload) notice.append(link("Reload", location.href), " · ");
    notice.append(WORKS, link("to the sessions", "/sessions"));
    // At the end: where the pages begin, the script looks for them.
    document.body.append(notice);
  }

  function whenParsed(work) {
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", work, { once: true });
    else work();
  }

  /** What failed is the end of it, whatever is said later. */
  function fail(text, canReload) {
    if (isFinal) return;
    isFinal = true;
    whenParsed(() => say(text, canReload));
  }

  if (typeof WebAssembly !== "object") {
    fail("This browser cannot run WebAssembly, or it is switched off, so nothing can be written or changed here.", false);
  }
  const failed = (reason) => {
    if (!isAlive()) fail("This page could not be loaded completely, so nothing can be written or changed here.", true);
    else if (typeof WebAssembly === "object" && reason instanceof WebAssembly.RuntimeError) {
      fail("This page has stopped working. What was said is kept.", true);
    }
  };
  addEventListener("unhandledrejection", (event) => failed(event.reason));
  // Errors of single pictures and styles are not meant, they do not come up to the window.
  addEventListener("error", (event) => failed(event.error));
  whenParsed(() => {
    setTimeout(() => {
      if (!isAlive() && !isFinal) say("This page is still loading. What you type stays; buttons work when it is ready.", false);
    }, PATIENCE);
  });
  new MutationObserver(() => {
    if (!isAlive()) return;
    // Whatever failed before, it came alive.
    notice?.remove();
    isFinal = false;
  }).observe(root, { attributeFilter: ["data-hydrated"] });
})();
