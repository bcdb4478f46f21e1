"use strict";
// Filters of the list of claims. Without this script the whole list is there.
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const rows = [...document.querySelectorAll("#claim-table tr.claim")];
  const bodies = [...document.querySelectorAll("#claim-table tbody")];
  const apply = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const words = wanted.words.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const body = row.parentElement;
      const text = (row.textContent + " " + body.rows[0].textContent).toLowerCase();
      const fits = (!wanted.verdict || row.dataset.verdict === wanted.verdict)
        && (!wanted.paper || row.dataset.paper === wanted.paper)
        && (!wanted.preset || body.dataset.preset === wanted.preset)
        && words.every((word) => text.includes(word));
      row.hidden = !fits;
      count += fits;
    }
    for (const body of bodies) body.hidden = [...body.rows].slice(1).every((row) => row.hidden);
    document.getElementById("shown").textContent = `${count} of ${rows.length} claims`;
    document.getElementById("nothing").hidden = count > 0;
  };
  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("pageshow", apply);
})();
// Points say their values: the nearest under the pointer, or one after the other with the arrow keys.
// Without this script a point's title shows on hover.
(() => {
  const tip = document.getElementById("tip");
  const near = 28; // pixels
  let on = null;
  const centre = (point) => {
    const box = point.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };
  const hide = () => {
    if (on) on.classList.remove("on");
    on = null;
    tip.hidden = true;
  };
  const show = (point) => {
    if (on !== point) hide();
    on = point;
    point.classList.add("on");
    tip.textContent = point.getAttribute("aria-label");
    tip.hidden = false;
    const [x, y] = centre(point);
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(6, Math.min(x - box.width / 2, innerWidth - box.width - 6))}px`;
    tip.style.top = `${y - box.height - 12 > 0 ? y - box.height - 12 : y + 14}px`;
  };
  for (const chart of document.querySelectorAll("svg.chart")) {
    const points = [...chart.querySelectorAll(".point")];
    points.forEach((point, index) => {
      point.querySelector("title")?.remove();
      point.setAttribute("tabindex", index ? "-1" : "0");
      point.addEventListener("focus", () => show(point));
      point.addEventListener("blur", hide);
    });
    chart.addEventListener("pointermove", (event) => {
      let best = null;
      let least = near;
      for (const point of points) {
        const [x, y] = centre(point);
        const far = Math.hypot(x - event.clientX, y - event.clientY);
        if (far < least) [best, least] = [point, far];
      }
      if (best) show(best); else hide();
    });
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const at = points.indexOf(document.activeElement);
      if (!step || at < 0) return;
      event.preventDefault();
      const next = points[(at + step + points.length) % points.length];
      document.activeElement.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  }
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", () => { if (on && on === document.activeElement) show(on); else hide(); }, { passive: true });
})();
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) { part.open = true; part.dataset.closed = ""; }
});
addEventListener("afterprint", () => {
  for (const part of document.querySelectorAll("details[data-closed]")) { part.open = false; delete part.dataset.closed; }
});
