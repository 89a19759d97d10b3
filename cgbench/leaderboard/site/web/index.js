"use strict";
(() => {
  const { all, say, sort } = Page;
  const { state, remember, fold, matches } = Site;
  const LIMIT = 25;
  const byId = id => document.getElementById(id);
  const [search, level, kind, references, past] = ["search", "level", "kind", "references", "past"].map(byId);
  const buttons = all("[data-track]", byId("bar")), sections = all("section.track");
  const tables = all("table.board").map(table => ({
    table, section: table.closest("section"), rows: [...table.tBodies[0].rows], whole: false,
    plots: all(`[data-table="${table.id}"]`),
  }));
  const cards = all("#cards .card").map(card => ({ card, text: fold(card.textContent) }));
  const texts = new Map(tables.flatMap(({ rows }) => rows.map(row => [row, fold(row.cells[1].textContent)])));
  byId("bar").hidden = false;

  const first = sections.find(section => section.querySelector("tr.model, tr.past")) || sections[0];
  let track = first ? first.dataset.track : "all", sorted = null, chosen = [];

  // A row is seen when every filter lets it through; long tables are cut until asked for all of it.
  const refresh = () => {
    const words = search.value.trim(), wanted = Number(level.value || 0);
    const filtered = Boolean(words || level.value || kind.value);
    let seen = 0, total = 0;
    for (const section of sections) section.hidden = track !== "all" && section.dataset.track !== track;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.track === track));
    for (const item of tables) {
      let shown = 0, models = 0;
      for (const row of [...item.table.tBodies[0].rows]) {
        const reference = row.classList.contains("reference");
        const on = (reference ? references.checked : (past.checked || !row.classList.contains("past"))
          && Number(row.dataset.level || 0) >= wanted && (!kind.value || (row.dataset.kind || "potential") === kind.value))
          && (!words || (reference && !level.value && !kind.value) || matches(texts.get(row), words));
        const cut = on && !reference && !filtered && !item.whole && shown >= LIMIT;
        row.hidden = !on || cut;
        if (!reference) { models += on; shown += on && !cut; if (!item.section.hidden) total += 1; }
        for (const dot of item.dots.get(Number(row.dataset.i)) || []) dot.classList.toggle("off", !on);
      }
      item.more.hidden = shown >= models;
      item.more.textContent = `Show all ${models} models`;
      if (!item.section.hidden) seen += models;
    }
    for (const { card, text } of cards) card.hidden = Boolean(words) && !matches(text, words);
    byId("found").textContent = filtered || !past.checked ? `${seen} of ${total} models` : "";
    remember({
      track: track === (first ? first.dataset.track : "all") ? "" : track, q: words, level: level.value, kind: kind.value,
      references: references.checked ? "" : "0", past: past.checked ? "" : "0",
      all: tables.filter(item => item.whole).map(item => item.table.id.slice(6)).join(","),
      sort: sorted ? `${sorted.table.id.slice(6)}:${sorted.place}:${sorted.order}` : "",
      pick: chosen.join(","),
    });
  };

  // Dots of the plots belong to rows: pointing at one shows the other.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const lines = row => {
    const link = row.querySelector("th a"), cells = [...row.cells], heads = [...row.closest("table").tHead.rows[0].cells];
    const told = ["Score", "ns/day", "Training"].map(name => {
      const place = heads.findIndex(head => head.textContent.trim() === name);
      const cell = cells[place];
      return cell && !cell.classList.contains("none") ? `${name} ${(cell.querySelector("b") || cell).textContent.trim()}` : "";
    });
    return [link.textContent, ...told].filter(Boolean).join(" · ");
  };
  for (const item of tables) {
    item.dots = new Map();
    const rowOf = new Map(item.rows.map(row => [Number(row.dataset.i), row]));
    for (const dot of item.plots.flatMap(plot => all("circle[data-i]", plot))) {
      const place = Number(dot.dataset.i), row = rowOf.get(place);
      item.dots.set(place, [...(item.dots.get(place) || []), dot]);
      const mark = on => {
        row.classList.toggle("near", on);
        for (const other of item.dots.get(place)) other.classList.toggle("near", on);
      };
      dot.addEventListener("pointerenter", event => {
        mark(true);
        tip.textContent = lines(row);
        tip.hidden = false;
        tip.style.left = `${Math.max(8, Math.min(event.pageX + 12, scrollX + document.documentElement.clientWidth - tip.offsetWidth - 12))}px`;
        tip.style.top = `${event.pageY + 14}px`;
      });
      dot.addEventListener("pointerleave", () => { mark(false); tip.hidden = true; });
      dot.addEventListener("click", () => { location.href = row.querySelector("th a").href; });
    }
    for (const row of item.rows) {
      const dots = item.dots.get(Number(row.dataset.i)) || [];
      if (!dots.length) continue;
      for (const [kind, on] of [["pointerenter", true], ["pointerleave", false], ["focusin", true], ["focusout", false]])
        row.addEventListener(kind, () => { for (const dot of dots) dot.classList.toggle("near", on); });
    }
    item.more = document.createElement("button");
    item.more.type = "button";
    item.more.className = "more-rows";
    item.more.addEventListener("click", () => { item.whole = true; refresh(); say("all models are shown"); });
    item.table.parentElement.after(item.more);
    item.table.addEventListener("sorted", event => { sorted = { table: item.table, ...event.detail }; refresh(); });
  }

  // Two models are chosen with the boxes before their names.
  const boxes = [];
  const idOf = row => decodeURIComponent(row.querySelector("th a").getAttribute("href")).replace(/^models\/|\.html$/g, "");
  const dock = () => {
    for (const [box, id] of boxes) { box.checked = chosen.includes(id); box.disabled = chosen.length > 1 && !box.checked; }
    byId("dock").hidden = !chosen.length;
    byId("chosen").textContent = chosen.length > 1 ? `${chosen[0]} and ${chosen[1]}` : `${chosen[0] || ""}: choose another`;
    const part = id => encodeURIComponent(id).replaceAll("%2F", "/");
    byId("compare").hidden = chosen.length < 2;
    byId("compare").href = `compare.html#a=${part(chosen[0] || "")}&b=${part(chosen[1] || "")}`;
  };
  for (const { rows } of tables)
    for (const row of rows) {
      if (row.classList.contains("reference")) continue;
      const box = document.createElement("input"), id = idOf(row);
      box.type = "checkbox";
      box.className = "pickbox";
      box.setAttribute("aria-label", `Compare ${row.querySelector("th a").textContent}`);
      box.addEventListener("change", () => {
        chosen = box.checked ? [...chosen, id].slice(-2) : chosen.filter(one => one !== id);
        dock();
        refresh();
        say(byId("chosen").textContent);
      });
      row.querySelector("th").prepend(box);
      boxes.push([box, id]);
    }
  byId("drop").addEventListener("click", () => { chosen = []; dock(); refresh(); });

  // What the address says is shown; what is shown is said by the address.
  const load = () => {
    const kept = state(), known = new Set(buttons.map(button => button.dataset.track));
    search.value = kept.get("q") || "";
    for (const [select, name] of [[level, "level"], [kind, "kind"]]) {
      select.value = kept.get(name) || "";
      if (select.selectedIndex < 0) select.value = "";
    }
    references.checked = kept.get("references") !== "0";
    past.checked = kept.get("past") !== "0";
    if (known.has(kept.get("track"))) track = kept.get("track");
    const whole = (kept.get("all") || "").split(",");
    for (const item of tables) item.whole = whole.includes(item.table.id.slice(6));
    const ids = new Set(boxes.map(([, id]) => id));
    chosen = (kept.get("pick") || "").split(",").filter(id => ids.has(id)).slice(0, 2);
    const [name, place, order] = (kept.get("sort") || "").split(":");
    const item = tables.find(one => one.table.id === `table-${name}`);
    const head = item && item.table.tHead.rows[0].cells[Number(place)];
    dock();
    if (head && head.querySelector(".sort") && ["ascending", "descending"].includes(order)) sort(item.table, Number(place), order);
    else refresh();
  };
  for (const button of buttons) button.addEventListener("click", () => { track = button.dataset.track; refresh(); say(`${button.firstChild.data.trim()} is shown`); });
  search.addEventListener("input", refresh);
  for (const control of [level, kind, references, past]) control.addEventListener("change", refresh);
  byId("clear").addEventListener("click", () => {
    for (const control of [search, level, kind]) control.value = "";
    references.checked = past.checked = true;
    refresh();
    search.focus();
  });
  window.addEventListener("hashchange", () => { if (location.hash.includes("=")) load(); });
  load();
})();
