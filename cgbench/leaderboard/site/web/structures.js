"use strict";
// The structures of a page: which are shown, how they are coloured, and turning them.
const Structures = (() => {
  const { all, say, save, slug } = Page;
  const NAMES = { A: "Ala", R: "Arg", N: "Asn", D: "Asp", C: "Cys", Q: "Gln", E: "Glu", G: "Gly", H: "His", I: "Ile", L: "Leu", K: "Lys", M: "Met", F: "Phe", P: "Pro", S: "Ser", T: "Thr", W: "Trp", Y: "Tyr", V: "Val", X: "Nle" };
  const KINDS = { H: "helix", E: "strand", C: "loop" };
  const rgb = text => [1, 3, 5].map(place => parseInt(text.slice(place, place + 2), 16));
  const CHAIN = ["#3b4cc0", "#5470de", "#6f92f3", "#7bb0d8", "#6fb59b", "#a9b45c", "#d9a441", "#e5803f", "#d65244", "#b40426"].map(rgb);
  const CLASSES = [["hydrophobic", "AVLIMFWCX", "#d9a441"], ["polar", "STNQYH", "#5fae7b"], ["positive", "KR", "#4f7be0"], ["negative", "DE", "#d8504f"], ["glycine, proline", "GP", "#a3adb8"]];
  const FOLDS = { H: "#c85a88", E: "#e0a63c", C: "#9fb0c3" };
  const GHOST = { native: "#c99700", reference: "#98a3b0" };

  const byChain = (index, n) => {
    const place = (CHAIN.length - 1) * index / Math.max(1, n - 1), low = Math.min(CHAIN.length - 2, Math.floor(place)), t = place - low;
    return CHAIN[low].map((value, channel) => value * (1 - t) + CHAIN[low + 1][channel] * t);
  };
  // How residues are coloured, by the name of the choice: their colour, and words for the legend.
  const SCHEMES = {
    chain: { text: "along the chain", colour: (i, data) => byChain(i, data.sequence.length), legend: () => [["first residue, with the ball", "#3b4cc0"], ["last", "#b40426"]] },
    residue: { text: "kind of residue", colour: (i, data) => rgb((CLASSES.find(([, letters]) => letters.includes(data.sequence[i])) || CLASSES[4])[2]), legend: () => CLASSES.map(([name, , colour]) => [name, colour]) },
    fold: { text: "secondary structure", colour: (i, data, frame) => rgb(FOLDS[frame.kinds[i]]), legend: () => Object.entries(FOLDS).map(([kind, colour]) => [KINDS[kind], colour]) },
    one: { text: "one colour each", colour: (i, data, frame, own) => rgb(own), legend: () => [] },
  };

  // Coordinates come as hundredths of an ångström: Cα and O of each residue in turn.
  const frameOf = packed => {
    const p = packed.xyz, point = start => [p[start] / 100, p[start + 1] / 100, p[start + 2] / 100];
    const n = p.length / 6, each = Array.from({ length: n }, (_, i) => 6 * i);
    return { ca: each.map(point), o: each.map(start => point(start + 3)), kinds: packed.kinds };
  };
  // "strands 2–4 and 7–9": runs of two residues or more.
  const folds = (kinds, first) => ["H", "E"].map(kind => {
    const runs = [...kinds.matchAll(new RegExp(`${kind}{2,}`, "g"))].map(run => `${run.index + first}–${run.index + first + run[0].length - 1}`);
    return runs.length ? `${kind === "H" ? "helix" : "strand"} ${runs.join(", ")}` : "";
  }).filter(Boolean).join("; ") || "no helix or strand";

  const start = holder => {
    const data = window.cgbenchStructures[holder.dataset.key];
    const role = name => holder.querySelector(`[data-role=${name}]`);
    const stage = holder.querySelector(".stage"), canvas = document.createElement("canvas"), view = new Ribbons.View(canvas), over = role("residue");
    const native = data.native && { name: "native", kind: "native", frames: [frameOf(data.native)] };
    const states = data.states.map(state => ({ ...state, items: [...(native ? [native] : []), ...state.items.map(item => ({ ...item, frames: item.frames.map(frameOf) }))] }));
    const items = new Map(states.flatMap(state => state.items.map(item => [item.name, item])));
    const lead = ["model", "reference", "native"].find(kind => [...items.values()].some(item => item.kind === kind));
    // The reference stands behind a model where it is not the native structure that does.
    const hidden = new Set([...items.values()].filter(item => item.kind !== lead && (lead === "reference" || item.kind === "reference")).map(item => item.name));
    let chosen = Math.max(0, states.findIndex(state => state.native)), scheme = "chain", more = false, timer = null, spinning = false, moving = 0, waiting = 0, took = 0;

    // Everything is drawn at once; what moves is drawn coarsely where that takes long.
    const ground = () => (getComputedStyle(stage).backgroundColor.match(/[\d.]+/g) || [255, 255, 255]).slice(0, 3).map(Number);
    const draw = () => {
      waiting = 0;
      if (!stage.clientWidth) return;
      const fine = Math.max(2, window.devicePixelRatio || 1), ratio = (moving || spinning) && took > 45 ? 1 : Math.min(3, fine);
      [canvas.width, canvas.height] = [Math.round(stage.clientWidth * ratio), Math.round(stage.clientHeight * ratio)];
      const begun = performance.now();
      view.draw(ground());
      if (ratio > 1) took = performance.now() - begun;
    };
    const request = () => { waiting ||= requestAnimationFrame(draw); };
    const moved = () => { clearTimeout(moving); moving = setTimeout(() => { moving = 0; request(); }, 160); request(); };

    const refresh = () => {
      const state = states[chosen], chains = [];
      for (const item of state.items) {
        if (hidden.has(item.name)) continue;
        item.frames.slice(0, more ? undefined : 1).forEach((frame, index) => {
          const leads = item.kind === lead, own = GHOST[item.kind] || item.colour || "#0b5c9c";
          const colours = frame.ca.map((_, i) => leads ? SCHEMES[scheme].colour(i, data, frame, own) : rgb(own));
          chains.push({ frame, thin: !leads || index > 0, colours, smooth: scheme === "chain", item });
        });
      }
      view.show(chains);
      view.fit(state.items.filter(item => !hidden.has(item.name)).flatMap(item => item.frames.slice(0, more ? undefined : 1).flatMap(frame => frame.ca)));
      const shown = state.items.find(item => item.kind === lead && !hidden.has(item.name));
      const name = states.length > 1 ? `Macrostate ${state.label}${state.text ? `: ${state.text}` : ""}. ` : "";
      role("told").textContent = name + (shown ? `${shown.name === "native" ? "Native structure" : shown.name}: ${folds(shown.frames[0].kinds, data.first)}.` : `Without a frame here: ${[...items.values()].filter(item => item.kind === lead).map(item => item.name).join(", ")}.`);
      for (const [index, button] of [...role("states").querySelectorAll("[data-state]")].entries()) button.setAttribute("aria-pressed", String(index === chosen));
      role("legend").replaceChildren(...SCHEMES[scheme].legend().map(([text, colour]) => { const key = document.createElement("span"); key.append(swatch(colour), text); return key; }));
      request();
    };
    const swatch = colour => { const made = document.createElement("span"); made.className = "swatch"; made.style.background = colour; return made; };
    const choose = (place, quiet) => { chosen = (place + states.length) % states.length; refresh(); if (!quiet) say(role("told").textContent); };

    const play = on => {
      clearInterval(timer);
      timer = on ? setInterval(() => { if (!document.hidden) choose(chosen + 1, true); }, 1500) : null;
      const button = role("play");
      button.setAttribute("aria-pressed", String(on));
      button.textContent = on ? "Pause" : "Play";
      say(on ? "playing through the macrostates" : role("told").textContent);
    };
    states.forEach((state, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.state = index;
      button.textContent = state.label;
      if (state.text) button.title = state.text;
      button.addEventListener("click", () => { if (timer) play(false); choose(index); });
      role("states").append(button);
    });
    role("states").hidden = states.length < 2;
    role("play").addEventListener("click", () => play(!timer));

    const box = (text, checked, colour, change) => {
      const label = document.createElement("label"), input = document.createElement("input");
      input.type = "checkbox";
      input.checked = checked;
      input.addEventListener("change", () => { change(input.checked); refresh(); });
      label.append(input, ...(colour ? [swatch(colour)] : []), text);
      role("structures").append(label);
    };
    if (items.size > 1)
      for (const item of items.values())
        box(item.name, !hidden.has(item.name), item.kind === lead ? null : GHOST[item.kind] || item.colour, on => { if (on) hidden.delete(item.name); else hidden.add(item.name); });
    if ([...items.values()].some(item => item.frames.length > 1)) box("more frames", false, null, on => { more = on; });
    const colours = role("colours");
    colours.append(...Object.entries(SCHEMES).map(([key, { text }]) => new Option(text, key)));
    colours.addEventListener("change", () => { scheme = colours.value; refresh(); say(`coloured by ${SCHEMES[scheme].text}`); });

    const reset = () => { view.matrix = [1, 0, 0, 0, 1, 0, 0, 0, 1]; view.scale = 1; };
    const zoom = factor => { view.scale = Math.min(8, Math.max(0.3, view.scale * factor)); };
    const spin = () => { if (!spinning) return; view.turn(0.7, 0); draw(); requestAnimationFrame(spin); };
    const acts = {
      left: () => view.turn(-15, 0), right: () => view.turn(15, 0), up: () => view.turn(0, -15), down: () => view.turn(0, 15),
      in: () => zoom(1.2), out: () => zoom(1 / 1.2), reset,
      save: () => save(canvas.toDataURL("image/png"), `${slug(`${document.title} ${states[chosen].label}`)}.png`),
      spin: button => { spinning = !spinning; button.setAttribute("aria-pressed", String(spinning)); spin(); },
    };
    for (const button of all("[data-turn]", holder)) button.addEventListener("click", () => { acts[button.dataset.turn](button); request(); });
    const keys = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", "+": "in", "=": "in", "-": "out", 0: "reset" };
    stage.addEventListener("keydown", event => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === " " && states.length > 1) play(!timer);
      else if ((event.key === "PageUp" || event.key === "PageDown") && states.length > 1) choose(chosen + (event.key === "PageUp" ? -1 : 1));
      else if (keys[event.key]) { acts[keys[event.key]](); moved(); }
      else return;
      event.preventDefault();
    });
    let from = null;
    canvas.addEventListener("pointerdown", event => { from = [event.clientX, event.clientY]; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", event => {
      if (from) { view.turn((event.clientX - from[0]) * 0.6, (event.clientY - from[1]) * 0.6); from = [event.clientX, event.clientY]; moved(); return; }
      const frame = canvas.getBoundingClientRect(), ratio = canvas.width / frame.width;
      const hit = view.at((event.clientX - frame.left) * ratio, (event.clientY - frame.top) * ratio);
      over.textContent = hit ? `${NAMES[data.sequence[hit.residue]] || data.sequence[hit.residue]} ${hit.residue + data.first} · ${KINDS[hit.chain.frame.kinds[hit.residue]]} · ${hit.chain.item.name}` : "";
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { from = null; });
    canvas.addEventListener("pointerleave", () => { over.textContent = ""; });
    // Turning the wheel scrolls the page; with the control key it zooms.
    stage.addEventListener("wheel", event => { if (event.ctrlKey) { event.preventDefault(); zoom(Math.exp(-event.deltaY / 300)); moved(); } }, { passive: false });

    stage.querySelector(".poster")?.remove();
    stage.prepend(canvas);
    holder.querySelector(".controls").hidden = false;
    refresh();
    draw();
    stage.dataset.drawn = "ribbons";
    new ResizeObserver(request).observe(stage);
    new MutationObserver(request).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", request);
  };
  return { start };
})();
