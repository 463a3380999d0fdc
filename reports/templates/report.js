"use strict";
// Draws every plot in the page's own theme, and again when the theme changes or the page is printed.
(() => {
  const standIns = { "#1c2126": "--ink", "#5c6670": "--muted", "#dfe2e4": "--grid", "#fffefc": "--paper" };
  const config = { responsive: true, displayModeBar: false, scrollZoom: false, showTips: false };
  const root = document.documentElement;

  function themed(text) {
    const style = getComputedStyle(root);
    for (const [standIn, name] of Object.entries(standIns)) {
      text = text.replaceAll(standIn, style.getPropertyValue(name).trim());
    }
    return JSON.parse(text);
  }

  function draw() {
    for (const plot of document.querySelectorAll(".plot")) {
      const figure = themed(document.getElementById(plot.dataset.figure).textContent);
      try {
        Plotly.react(plot, figure.data, figure.layout, config);
      } catch (error) {
        console.error(error);
        plot.textContent = "This plot could not be drawn here; the tables above hold its numbers.";
      }
    }
  }

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", () => { root.dataset.theme = "light"; draw(); });
  addEventListener("afterprint", () => { delete root.dataset.theme; draw(); });
})();
