"use strict";
(() => {
  const { all, say, save, slug } = Page;

  // The molecular viewer. Coordinates come in hundredths of an ångström, four backbone atoms or
  // one Cα a residue.
  const NAMES = ["N", "CA", "C", "O"];
  const THREE = { A: "ALA", R: "ARG", N: "ASN", D: "ASP", C: "CYS", Q: "GLN", E: "GLU", G: "GLY", H: "HIS", I: "ILE", L: "LEU", K: "LYS", M: "MET", F: "PHE", P: "PRO", S: "SER", T: "THR", W: "TRP", Y: "TYR", V: "VAL" };
  const REFERENCE = "#aab2bc", NATIVE = "#c99700";
  const colourOf = item => item.kind === "native" ? NATIVE : item.kind === "reference" ? REFERENCE : item.colour;
  const points = flat => Array.from({ length: flat.length / 3 }, (_, i) => [flat[3 * i] / 100, flat[3 * i + 1] / 100, flat[3 * i + 2] / 100]);
  const pad = (text, width) => String(text).padStart(width);
  const pdb = (frame, data) => points(frame).map((p, index) => {
    const per = data.backbone ? 4 : 1, residue = Math.floor(index / per);
    const atom = data.backbone ? NAMES[index % 4] : "CA";
    return `ATOM  ${pad(index + 1, 5)}  ${atom.padEnd(3)} ${THREE[data.sequence[residue]] || "UNK"} A${pad(residue + 1, 4)}    ${p.map(x => pad(x.toFixed(3), 8)).join("")}  1.00  0.00           ${atom[0]}`;
  }).join("\n") + "\nEND\n";

  class RibbonView {
    constructor(stage, data) {
      this.box = document.createElement("div");
      this.box.style.cssText = "position:absolute;inset:0";
      stage.append(this.box);
      this.data = data;
      this.view = window.$3Dmol.createViewer(this.box, { backgroundAlpha: 0, antialias: true });
      if (!this.view || !this.box.querySelector("canvas")) { this.box.remove(); throw new Error("no WebGL"); }
      this.view.setBackgroundColor(0xffffff, 0);
      // Turning the wheel scrolls the page; with the control key it zooms.
      stage.addEventListener("wheel", event => { if (!event.ctrlKey) event.stopPropagation(); }, { capture: true });
    }
    show(chains, anew) {
      this.view.removeAllModels();
      for (const chain of chains) {
        const model = this.view.addModel(pdb(chain.frame, this.data), "pdb");
        const look = this.data.backbone && !chain.thin
          ? { cartoon: { style: "oval", color: chain.colour, arrows: this.data.sequence.length > 20, thickness: 0.35, width: 1 } }
          : { cartoon: { style: "trace", color: chain.colour, thickness: chain.thin ? 0.2 : 0.45 } };
        model.setStyle({}, look);
        if (!chain.thin) model.setStyle({ resi: 1, atom: "CA" }, { sphere: { radius: 0.6, color: chain.colour } }, true);
      }
      if (!this.placed) this.reset();
      else if (anew) { this.view.zoomTo(); this.view.zoom(1.3); }
      this.placed = true;
      this.view.render();
    }
    reset() { this.view.setView([0, 0, 0, 0, 0, 0, 0, 1]); this.view.zoomTo(); this.view.zoom(1.3); this.view.render(); }
    turn(across, along) { if (across) this.view.rotate(across, "vy"); if (along) this.view.rotate(along, "vx"); }
    zoom(factor) { this.view.zoom(factor); }
    spin(on) { this.view.spin(on ? "y" : false, 0.6); }
    picture() { return this.view.pngURI(); }
  }

  // Browsers give a page a dozen WebGL contexts; the others are drawn without.
  let contexts = 0;
  const webgl = () => {
    const found = document.createElement("canvas").getContext("webgl2") || document.createElement("canvas").getContext("webgl");
    if (found) found.getExtension("WEBGL_lose_context")?.loseContext();
    return Boolean(found);
  };
  const makeView = (stage, data) => {
    if (window.$3Dmol && contexts < 8 && webgl()) {
      try {
        const view = new RibbonView(stage, data);
        contexts += 1;
        stage.dataset.drawn = "3dmol";
        return view;
      } catch { stage.replaceChildren(); }
    }
    stage.dataset.drawn = "trace";
    return new TraceView(stage);
  };

  const start = holder => {
    const data = JSON.parse(document.getElementById(holder.dataset.viewer).textContent);
    const stage = holder.querySelector(".stage");
    const view = makeView(stage, data);
    const seen = new Map(data.macrostates.flatMap(state => state.structures.map(item => [item.name, item])));
    const hidden = new Set(), states = holder.querySelector("[data-role=states]"), list = holder.querySelector("[data-role=structures]");
    const absent = holder.querySelector("[data-role=absent]");
    let chosen = Math.max(0, data.macrostates.findIndex(state => state.label.includes("native"))), more = false;
    holder.querySelector(".controls").hidden = false;
    const refresh = anew => {
      const chains = [], here = new Set(data.macrostates[chosen].structures.map(item => item.name));
      const without = [...seen.keys()].filter(name => !here.has(name));
      absent.textContent = without.length ? `Without a frame in this macrostate: ${without.join(", ")}.` : "";
      for (const item of data.macrostates[chosen].structures) {
        if (hidden.has(item.name)) continue;
        item.frames.slice(0, more ? undefined : 1).forEach((frame, index) => {
          const placed = points(frame);
          chains.push({ frame, points: data.backbone ? placed.filter((_, i) => i % 4 === 1) : placed, colour: colourOf(item), thin: index > 0 });
        });
      }
      view.show(chains, anew);
      for (const [index, button] of [...states.children].entries()) button.setAttribute("aria-pressed", String(index === chosen));
    };
    data.macrostates.forEach((state, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = state.label;
      button.addEventListener("click", () => { chosen = index; refresh(true); say(`macrostate ${state.label} is shown`); });
      states.append(button);
    });
    const box = (text, checked, colour, change) => {
      const label = document.createElement("label"), input = document.createElement("input");
      input.type = "checkbox";
      input.checked = checked;
      input.addEventListener("change", () => { change(input.checked); refresh(); });
      label.append(input);
      if (colour) {
        const swatch = document.createElement("span");
        swatch.className = "swatch";
        swatch.style.background = colour;
        label.append(swatch);
      }
      label.append(text);
      list.append(label);
    };
    for (const item of seen.values()) {
      if (item.kind === "native") hidden.add(item.name);
      box(item.name, item.kind !== "native", colourOf(item), on => { if (on) hidden.delete(item.name); else hidden.add(item.name); });
    }
    if ([...seen.values()].some(item => item.frames.length > 1)) box("more frames", false, null, on => { more = on; });
    const acts = {
      left: () => view.turn(-15, 0), right: () => view.turn(15, 0), up: () => view.turn(0, -15), down: () => view.turn(0, 15),
      in: () => view.zoom(1.2), out: () => view.zoom(1 / 1.2), reset: () => view.reset(),
      save: () => save(view.picture(), `${slug(holder.closest("section").querySelector("h2").textContent)}-macrostate.png`),
      spin: button => { const on = button.getAttribute("aria-pressed") !== "true"; button.setAttribute("aria-pressed", String(on)); view.spin(on); },
    };
    for (const button of all("[data-turn]", holder)) button.addEventListener("click", () => acts[button.dataset.turn](button));
    const keys = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", "+": "in", "=": "in", "-": "out", 0: "reset" };
    stage.addEventListener("keydown", event => {
      if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      acts[keys[event.key]]();
    });
    refresh();
  };
  const watcher = new IntersectionObserver(entries => {
    for (const entry of entries) if (entry.isIntersecting) { watcher.unobserve(entry.target); start(entry.target); }
  }, { rootMargin: "300px" });
  for (const holder of all(".viewer")) watcher.observe(holder);
})();
