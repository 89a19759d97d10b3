"use strict";
// Every page of the site: searching from anywhere, copying commands, the state kept in the address.
const Site = (() => {
  const { all, say } = Page;

  for (const form of all("form[data-search]")) {
    form.hidden = false;
    form.addEventListener("submit", event => {
      event.preventDefault();
      const words = new FormData(form).get("q").trim();
      const target = new URL(form.dataset.search, location.href);
      target.hash = words ? `q=${encodeURIComponent(words)}&track=all` : "";
      if (target.pathname === location.pathname) { location.hash = target.hash; document.getElementById("models")?.scrollIntoView(); }
      else location.href = target.href;
    });
  }

  for (const box of all(".commands")) {
    const button = box.querySelector(".copy");
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(box.querySelector("code").textContent.trim()); say("copied"); button.textContent = "Copied"; }
      catch { say("copying is not allowed here"); }
    });
  }

  // What is shown is part of the address after #, so that a link shows the same. Anchors have no "=".
  const state = () => {
    const text = location.hash.slice(1);
    return new URLSearchParams(text.includes("=") ? text : "");
  };
  const remember = values => {
    const kept = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined));
    const hash = kept.toString().replaceAll("%2F", "/");
    if (hash === location.hash.slice(1)) return;
    if (!hash && !state().size) return;
    try { history.replaceState(null, "", `${location.pathname}${location.search}${hash ? `#${hash}` : ""}`); }
    catch { /* a browser that does not allow it for files */ }
  };

  const fold = text => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const matches = (text, words) => fold(words).split(/\s+/).every(word => text.includes(word));
  return { state, remember, fold, matches };
})();
