"use strict";
(() => {
  const { say } = Page;
  const { state, remember } = Site;
  const data = JSON.parse(document.getElementById("board").textContent);
  const [a, b, protein] = ["a", "b", "protein"].map(id => document.getElementById(id));
  const out = document.getElementById("out");
  const make = (name, text = "", attributes = {}) => {
    const found = document.createElement(name);
    if (text !== "") found.textContent = text;
    for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
    return found;
  };
  const SVG = "http://www.w3.org/2000/svg";
  const draw = (name, attributes) => {
    const found = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
    return found;
  };
  const number = value => {
    if (value === null || value === undefined) return "–";
    if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) return value.toExponential(1);
    return String(Number(value.toPrecision(3)));
  };

  // The interval of a − b for independent estimates, from the ends that face each other
  // (Zou and Donner, Stat. Med. 27, 1693 (2008)).
  const difference = (one, two) => {
    if (!one || !two) return null;
    const value = one[0] - two[0];
    if ([one[1], one[2], two[1], two[2]].some(end => end === null)) return [value, null, null];
    return [value, value - Math.hypot(one[0] - one[1], two[2] - two[0]), value + Math.hypot(one[2] - one[0], two[0] - two[1])];
  };
  // A metric with a target is judged by the distance from it.
  const distance = (cell, target) => {
    if (!cell || target === null || target === undefined) return null;
    const [value, lo, hi] = cell, far = Math.abs(value - target);
    if (lo === null) return [far, null, null];
    const ends = [Math.abs(lo - target), Math.abs(hi - target)];
    return [far, lo <= target && target <= hi ? 0 : Math.min(...ends), Math.max(...ends)];
  };
  const verdict = (found, sign) => {
    if (!found || found[1] === null) return "–";
    if (found[1] <= 0 && found[2] >= 0) return "not significant";
    return sign * found[0] > 0 ? "first is better" : "second is better";
  };

  const duel = (one, two, floor) => {
    const svg = draw("svg", { class: "duel", viewBox: "0 0 190 30", "aria-hidden": "true" });
    const all = [one, two, floor].filter(Boolean).flatMap(cell => cell.filter(value => value !== null));
    if (!all.length) return svg;
    const least = Math.min(...all), most = Math.max(...all), wide = most - least || 1;
    const x = value => 6 + 178 * (value - least) / wide;
    if (floor && floor[1] !== null) svg.append(draw("rect", { class: "floor", x: x(floor[1]), y: 2, width: Math.max(2, x(floor[2]) - x(floor[1])), height: 26 }));
    for (const [cell, y, name] of [[one, 10, "first"], [two, 20, "second"]]) {
      if (!cell) continue;
      const group = draw("g", { class: name });
      if (cell[1] !== null) group.append(draw("path", { d: `M${x(cell[1])} ${y}H${x(cell[2])}` }));
      group.append(name === "first" ? draw("circle", { cx: x(cell[0]), cy: y, r: 3.8 }) : draw("path", { d: `M${x(cell[0])} ${y - 5}l5 5l-5 5l-5 -5z` }));
      svg.append(group);
    }
    return svg;
  };

  const card = (model, place) => {
    const box = make("div", "", { class: `box ${place}` }), title = make("h2"), list = make("dl");
    title.append(make("a", model.title, { href: model.href }));
    const said = [
      ["model", model.id], ["track", model.track], ["group", model.group], ["rank", model.rank === null ? "–" : String(model.rank)],
      ["score", model.score ? `${model.score[0].toFixed(2)} [${model.score[1].toFixed(2)}, ${model.score[2].toFixed(2)}]` : "–"],
      ["checked", model.level], ["training data", model.data],
    ];
    if (model.cost) said.push(["ns/day", number(model.cost[0])], ["training", model.cost[1]], ["parameters", model.cost[2]], ["hardware", model.cost[3]]);
    for (const [key, value] of said) if (value) list.append(make("dt", key), make("dd", value));
    box.append(title, list);
    return box;
  };
  const table = (label, head, lines) => {
    const scroll = make("div", "", { class: "scroll", tabindex: "0", role: "region", "aria-label": label });
    const found = make("table"), top = make("tr"), body = make("tbody"), first = make("thead");
    head.forEach((text, place) => top.append(make("th", text, place === 0 ? { scope: "col", class: "text" } : { scope: "col" })));
    first.append(top);
    for (const cells of lines) {
      const line = make("tr");
      cells.forEach((cell, place) => {
        const item = place === 0 ? make("th", "", { scope: "row" }) : make("td");
        if (cell instanceof Node) item.append(cell); else item.textContent = cell;
        if (cell === "first is better" || cell === "second is better") item.className = "better";
        line.append(item);
      });
      body.append(line);
    }
    found.append(first, body);
    scroll.append(found);
    return scroll;
  };
  const valued = cell => {
    const found = make("span", cell ? number(cell[0]) : "n/a");
    if (cell && cell[1] !== null) found.append(make("small", `${number(cell[1])} … ${number(cell[2])}`));
    return found;
  };

  const show = () => {
    const [one, two] = [a, b].map(select => data.models.find(model => model.id === select.value));
    out.replaceChildren();
    remember({ a: a.value, b: b.value, protein: protein.value });
    if (!one || !two) { out.append(make("p", data.models.length < 2 ? "There are fewer than two models to compare yet." : "Choose two models.", { class: "empty" })); return; }
    const pair = make("div", "", { class: "pair" });
    pair.append(card(one, "first"), card(two, "second"));
    out.append(pair);
    if (one.group !== two.group || one.track !== two.track) out.append(make("p", "These two are of different tracks or groups: other systems or another protocol. Ranks do not compare, and metrics only protein by protein.", { class: "box warning" }));
    const shared = data.systems.filter(([key]) => one.systems[key] && two.systems[key]);
    const keys = protein.value ? shared.filter(([key]) => key === protein.value) : shared;
    if (!keys.length) { out.append(make("p", "They have no scored protein in common here.", { class: "empty" })); return; }
    const sum = shared.map(([key, name]) => {
      const found = difference(one.systems[key][0], two.systems[key][0]);
      return [name, valued(one.systems[key][0]), valued(two.systems[key][0]), duel(one.systems[key][0], two.systems[key][0], null), found ? number(found[0]) : "–", verdict(found, 1)];
    });
    const whole = difference(one.score, two.score);
    sum.unshift(["all that count", valued(one.score), valued(two.score), duel(one.score, two.score, null), whole ? number(whole[0]) : "–", verdict(whole, 1)]);
    out.append(make("h2", "Scores"), table("Scores of the two models", ["protein", "first", "second", "", "difference", "reading"], sum));
    out.append(make("h2", "Metrics"));
    for (const [key, name] of keys) {
      const tally = { first: 0, second: 0, open: 0 };
      const lines = data.metrics.flatMap(([id, title, unit, direction, counts], place) => {
        const cells = [one, two].map(model => model.systems[key][1][place]);
        if (!cells[0] && !cells[1]) return [];
        const target = direction === "target" ? (data.targets[key] || [])[place] : null;
        const judged = direction === "target" ? cells.map(cell => distance(cell, target)) : cells;
        const found = difference(...judged), read = verdict(found, direction === "max" ? 1 : -1);
        tally[read.startsWith("first") ? "first" : read.startsWith("second") ? "second" : "open"] += 1;
        const link = make("a", `${title} ${{ min: "↓", max: "↑", target: "→" }[direction]}`, { href: `metrics.html#${id}` });
        const label = make("span");
        label.append(link, make("small", [unit, counts ? "" : "does not count", direction === "target" ? `reference ${number(target)}` : ""].filter(Boolean).join(" · ")));
        const floor = (data.floor[key] || [])[place];
        return [[label, valued(cells[0]), valued(cells[1]), duel(cells[0], cells[1], floor), floor ? number(floor[0]) : "–", found ? number(found[0]) : "–", read]];
      });
      const box = make("details", "", { class: "more" });
      box.open = keys.length < 3;
      box.append(make("summary", `${name}: first is better in ${tally.first} metrics, second in ${tally.second}; ${tally.open} cannot be told`),
        table(`Metrics on ${name}`, ["metric", "first", "second", "", "noise floor", "difference", "reading"], lines));
      out.append(box);
    }
    out.append(make("p", "Circles are the first model, diamonds the second, the grey band is the noise floor where it is known. Metrics with a target are judged by their distance from it.", { class: "note" }));
  };

  const option = (select, value, text) => select.append(make("option", text, { value }));
  const sorted = [...data.models].sort((one, two) => one.title.localeCompare(two.title, "en", { numeric: true }));
  for (const select of [a, b]) for (const model of sorted) option(select, model.id, `${model.title} (${model.id})`);
  option(protein, "", "all in common");
  for (const [key, name] of data.systems) option(protein, key, name);
  const load = () => {
    const kept = state(), known = data.models.map(model => model.id);
    const pick = (name, otherwise) => known.includes(kept.get(name)) ? kept.get(name) : otherwise;
    a.value = pick("a", known[0] || "");
    b.value = pick("b", known.find(id => id !== a.value) || "");
    protein.value = data.systems.some(([key]) => key === kept.get("protein")) ? kept.get("protein") : "";
    show();
  };
  for (const select of [a, b, protein]) select.addEventListener("change", () => { show(); say("compared"); });
  document.getElementById("swap").addEventListener("click", () => { [a.value, b.value] = [b.value, a.value]; show(); say("swapped"); });
  document.getElementById("bar").hidden = false;
  window.addEventListener("hashchange", () => { if (location.hash.includes("=")) load(); });
  load();
})();
