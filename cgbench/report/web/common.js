"use strict";
// What every page shares: the theme, tables that sort, and saving. No page asks for anything.
const Page = (() => {
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const status = document.getElementById("status");
  const say = text => { status.textContent = text; };
  root.classList.add("js");

  // Theme: as the system, light, dark. A page opened from a file may not be allowed to remember.
  const themes = ["system", "light", "dark"];
  const toggle = document.getElementById("theme");
  const remember = {
    get() { try { return localStorage.getItem("cgbench-theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("cgbench-theme", value); } catch { /* not kept */ } },
  };
  const setTheme = name => {
    if (name === "system") root.removeAttribute("data-theme"); else root.setAttribute("data-theme", name);
    toggle.textContent = `Theme: ${name === "system" ? "as the system" : name}`;
    toggle.dataset.theme = name;
  };
  setTheme(themes.includes(remember.get()) ? remember.get() : "system");
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    const next = themes[(themes.indexOf(toggle.dataset.theme) + 1) % themes.length];
    setTheme(next);
    remember.set(next);
  });

  // Tables: a button in each head sorts, numbers by their full value, missing ones always last.
  const value = cell => {
    if (!cell || cell.classList.contains("none")) return null;
    if (cell.dataset.value !== undefined) {
      const number = parseFloat(cell.dataset.value);
      return Number.isNaN(number) ? null : number;
    }
    return cell.textContent.trim();
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
    : String(a).localeCompare(String(b), "en", { numeric: true });
  // Sorts a table by the column at a place, and tells so with a "sorted" event.
  const sort = (table, place, order) => {
    const heads = [...table.tHead.rows[0].cells], head = heads[place];
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map(row => [value(row.cells[place]), row]);
    rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b));
    table.tBodies[0].append(...rows.map(([, row]) => row));
    table.dispatchEvent(new CustomEvent("sorted", { detail: { place, order } }));
  };
  for (const table of all("table.sortable"))
    for (const button of all("thead .sort", table))
      button.addEventListener("click", () => {
        const head = button.closest("th");
        const place = [...head.parentElement.children].indexOf(head);
        const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
        sort(table, place, order);
        say(`sorted by ${button.textContent.trim()}, ${order}`);
      });

  // Saving: a link that is followed and forgotten.
  const save = (address, name) => {
    const link = document.createElement("a");
    link.href = address;
    link.download = name;
    link.click();
    say(`saved ${name}`);
  };
  const saveBlob = (blob, name) => {
    const address = URL.createObjectURL(blob);
    save(address, name);
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  };
  const slug = text => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60) || "figure";
  return { all, say, sort, save, saveBlob, slug };
})();
