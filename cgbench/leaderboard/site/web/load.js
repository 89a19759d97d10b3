"use strict";
(() => {
  // Structures are drawn by a script of the site, and their data are another: both are loaded when a
  // structure comes into view. A page that was saved alone keeps the picture that it has.
  const loaded = new Map();
  const load = address => {
    if (!loaded.has(address))
      loaded.set(address, new Promise((done, failed) => {
        const script = document.createElement("script");
        script.src = address;
        script.onload = done;
        script.onerror = failed;
        document.head.append(script);
      }));
    return loaded.get(address);
  };
  const watcher = new IntersectionObserver(entries => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      Promise.all([load(target.dataset.script), load(target.dataset.structures)]).then(() => Structures.start(target))
        .catch(() => { target.querySelector("[data-role=told]").textContent = "The files of the structures could not be loaded."; });
    }
  }, { rootMargin: "200px" });
  for (const holder of Page.all(".viewer")) watcher.observe(holder);
})();
