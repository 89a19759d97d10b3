"use strict";
(() => {
  const { sort } = Page;
  const { state, remember, fold, matches } = Site;
  const table = document.getElementById("table-models");
  if (!table) return;
  const [search, track, references] = ["search", "track", "references"].map(id => document.getElementById(id));
  const rows = [...table.tBodies[0].rows].map(row => [row, fold(row.cells[0].textContent)]);
  let sorted = null;
  document.getElementById("bar").hidden = false;
  const refresh = () => {
    const words = search.value.trim();
    let seen = 0, total = 0;
    for (const [row, text] of rows) {
      const reference = row.classList.contains("reference");
      row.hidden = reference ? !references.checked : !((!track.value || row.dataset.track === track.value) && matches(text, words));
      if (!reference) { total += 1; seen += !row.hidden; }
    }
    document.getElementById("found").textContent = seen < total ? `${seen} of ${total} models` : "";
    remember({ q: words, track: track.value, references: references.checked ? "" : "0", sort: sorted ? `${sorted.place}:${sorted.order}` : "" });
  };
  table.addEventListener("sorted", event => { sorted = event.detail; refresh(); });
  search.addEventListener("input", refresh);
  for (const control of [track, references]) control.addEventListener("change", refresh);
  const load = () => {
    const kept = state();
    search.value = kept.get("q") || "";
    track.value = kept.get("track") || "";
    if (track.selectedIndex < 0) track.value = "";
    references.checked = kept.get("references") !== "0";
    const [place, order] = (kept.get("sort") || "").split(":");
    const head = table.tHead.rows[0].cells[Number(place || -1)];
    if (head && head.querySelector(".sort") && ["ascending", "descending"].includes(order)) sort(table, Number(place), order);
    else refresh();
  };
  window.addEventListener("hashchange", () => { if (location.hash.includes("=")) load(); });
  load();
})();
