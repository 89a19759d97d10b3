"use strict";
(() => {
  const { all, say, save, saveBlob, slug } = Page;

  // Filters: groups of metrics are columns, reference rows and open differences are lines.
  for (const bar of all(".filters")) {
    const table = document.getElementById(bar.dataset.table || bar.dataset.differences);
    bar.hidden = false;
    const heads = [...table.tHead.rows[0].cells];
    const show = group => {
      const seen = heads.map((head, place) => place === 0 || (group === "all" && head.dataset.group !== "optional")
        || (group === "primary" ? head.dataset.primary !== undefined : head.dataset.group === group));
      for (const row of table.rows) seen.forEach((on, place) => { if (row.cells[place]) row.cells[place].hidden = !on; });
      for (const button of all("[data-group]", bar)) button.setAttribute("aria-pressed", String(button.dataset.group === group));
    };
    for (const button of all("[data-group]", bar))
      button.addEventListener("click", () => { show(button.dataset.group); say(`${button.textContent.trim()} metrics are shown`); });
    if (bar.dataset.table) show(heads.some(head => head.dataset.primary !== undefined) ? "primary" : "all");
    for (const box of all("[data-rows]", bar))
      box.addEventListener("change", () => lines());
    // A line is hidden as long as any of the boxes that it needs is not checked.
    const which = { reference: "tr[data-reference]", open: "tr.open", optional: "tr[data-optional]" };
    const lines = () => {
      for (const row of table.tBodies[0].rows)
        row.hidden = all("[data-rows]", bar).some(box => !box.checked && row.matches(which[box.dataset.rows]));
    };
    lines();
  }

  // Figures: the drawing as it is, with the colours of a light page.
  const nameOf = figure => {
    const section = figure.closest("section");
    const heading = section && section.querySelector("h2");
    return slug(`${heading ? heading.textContent : ""} ${figure.querySelector("figcaption strong").textContent}`);
  };
  const standalone = svg => {
    const copy = svg.cloneNode(true);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    return new XMLSerializer().serializeToString(copy)
      .replaceAll("currentColor", "#1a1d21").replaceAll("var(--soft, #5b6470)", "#5b6470");
  };
  for (const button of all("[data-save]")) {
    button.addEventListener("click", () => {
      const figure = button.closest("figure"), svg = figure.querySelector(".drawing svg");
      const name = nameOf(figure);
      if (!svg) { save(figure.querySelector("img").src, `${name}.${button.dataset.save}`); return; }
      const text = standalone(svg);
      if (button.dataset.save === "svg") { saveBlob(new Blob([text], { type: "image/svg+xml" }), `${name}.svg`); return; }
      const picture = new Image();
      picture.addEventListener("load", () => {
        const box = svg.viewBox.baseVal, scale = 4;
        const canvas = document.createElement("canvas");
        canvas.width = Math.round(box.width * scale);
        canvas.height = Math.round(box.height * scale);
        const pen = canvas.getContext("2d");
        pen.fillStyle = "#fff";
        pen.fillRect(0, 0, canvas.width, canvas.height);
        pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
        canvas.toBlob(blob => saveBlob(blob, `${name}.png`), "image/png");
      });
      picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
    });
  }

  window.addEventListener("beforeprint", () => { for (const box of all("details")) box.open = true; });
})();
