"use strict";
// Draws every plot in the page's own theme, and again when the theme changes or the page is printed; sorts tables.
(() => {
  const standIns = { "#1c2126": "--ink", "#5c6670": "--muted", "#dfe2e4": "--grid", "#fffefc": "--paper" };
  const config = { responsive: true, displayModeBar: false, scrollZoom: false, showTips: false };
  const root = document.documentElement;

  // -- plots

  const source = (plot) => document.getElementById(plot.dataset.figure).textContent;

  function themed(text) {
    const style = getComputedStyle(root);
    for (const [standIn, name] of Object.entries(standIns)) {
      text = text.replaceAll(standIn, style.getPropertyValue(name).trim());
    }
    return JSON.parse(text);
  }

  const sliderOf = (plot) => plot.closest("figure").querySelector(".slider input");

  function shownData(plot, figure) {
    const slider = sliderOf(plot);
    return slider ? [{ ...figure.data[0], z: figure.frames[slider.value].data[0].z }] : figure.data;
  }

  // Plotly follows a page that changes its width a moment later: too late for paper.
  const widthOnPaper = (plot) => ("printing" in root.dataset ? { width: plot.clientWidth } : {});

  function draw(plot) {
    const figure = themed(source(plot));
    try {
      Plotly.react(plot, shownData(plot, figure), { ...figure.layout, ...widthOnPaper(plot) }, config);
    } catch (error) {
      console.error(error);
      undrawn(plot);
    }
  }

  function undrawn(plot) {
    plot.textContent = "This plot could not be drawn here; the tables hold its numbers.";
  }

  const plots = document.querySelectorAll(".plot");
  const drawAll = () => plots.forEach(draw);

  function slide(plot) {
    const slider = sliderOf(plot);
    const frame = JSON.parse(source(plot)).frames[slider.value];
    slider.previousElementSibling.textContent = frame.name;
    slider.setAttribute("aria-valuetext", frame.name);
    draw(plot);
  }

  // The stand-ins are themselves a light theme: what is saved is the same whatever the page's own.
  async function save(button) {
    const plot = button.closest("figure").querySelector(".plot");
    const figure = JSON.parse(source(plot));
    const layout = { ...figure.layout, paper_bgcolor: "#ffffff", title: { text: "" } };
    const size = { format: "svg", width: plot.clientWidth, height: figure.layout.height };
    const link = document.createElement("a");
    link.download = button.dataset.name;
    link.href = await Plotly.toImage({ data: shownData(plot, figure), layout }, size);
    link.click();
  }

  // -- tables

  // "1,234", "−0.5 [−0.6, −0.4]", "~12,000", "+1.2": the number that a cell begins with.
  function numberIn(text) {
    const match = /^[~*]?\s*([+−-]?(?:\d[\d,]*(?:\.\d+)?|∞)(?:e[+-]?\d+)?)/.exec(text);
    if (!match) return NaN;
    return Number(match[1].replaceAll(",", "").replace("−", "-").replace("∞", "Infinity"));
  }

  function compare(a, b) {
    const [x, y] = [numberIn(a), numberIn(b)];
    if (!isNaN(x) && !isNaN(y)) return x - y || a.localeCompare(b);
    if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1;
    return a.localeCompare(b, undefined, { numeric: true });
  }

  function order(rows, column, direction) {
    const said = (row) => row.cells[column].textContent.trim();
    const empty = (row) => ["", "–"].includes(said(row));
    return [...rows].sort((a, b) => empty(a) - empty(b) || direction * compare(said(a), said(b)));
  }

  const next = { none: "ascending", ascending: "descending", descending: "none" };

  function sortable(table) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    if (original.length < 2) return;
    const heads = [...table.tHead.rows[0].cells];
    const first = original.map((row) => row.classList.contains("begins"));

    function sort(column) {
      const state = next[heads[column].getAttribute("aria-sort")];
      heads.forEach((head, index) => head.setAttribute("aria-sort", index === column ? state : "none"));
      const rows = state === "none" ? original : order(original, column, state === "ascending" ? 1 : -1);
      body.append(...rows);
      rows.forEach((row, index) => row.classList.toggle("begins", state === "none" ? first[index] : true));
    }

    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => sort(column));
    });
  }

  // -- a backend to copy

  async function copy(button) {
    const text = button.closest("details").querySelector("pre");
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text); // no right to the clipboard: it is one key press away
      button.textContent = "Selected: press Ctrl+C";
    }
  }

  // -- Plotly, packed: a page is half as long. The policy allows it by the hash of what is unpacked.

  async function unpack() {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (each) => each.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  function printing(begins) {
    if (begins) {
      root.dataset.theme = "light";
      root.dataset.printing = "";
    } else {
      delete root.dataset.theme;
      delete root.dataset.printing;
    }
    drawAll();
  }

  async function start() {
    try {
      await unpack();
    } catch (error) {
      console.error(error);
      plots.forEach(undrawn);
      return;
    }
    drawAll();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    addEventListener("beforeprint", () => printing(true));
    addEventListener("afterprint", () => printing(false));
    root.dataset.drawn = "";
  }

  if (plots.length) start();
  document.querySelectorAll("table.sortable").forEach(sortable);
  plots.forEach((plot) => sliderOf(plot)?.addEventListener("input", () => slide(plot)));
  document.querySelectorAll("button.save").forEach((each) => each.addEventListener("click", () => save(each)));
  document.querySelectorAll("button.copy").forEach((each) => each.addEventListener("click", () => copy(each)));
})();
