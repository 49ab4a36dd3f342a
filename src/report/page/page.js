"use strict";
// clicking a column header sorts by it; missing values stay at the end
for (const button of document.querySelectorAll(".sortable thead button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
    const ascending = head.getAttribute("aria-sort") !== "ascending", place = head.cellIndex;
    for (const other of head.parentElement.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const key = (row) => row.cells[place].dataset.sort;
    const numeric = head.classList.contains("numeric");
    const rows = [...body.rows].sort((one, two) => {
      const [a, b] = [key(one), key(two)];
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
      return ascending ? order : -order;
    });
    body.append(...rows);
  });
}
// clicking a name hides or shows its curves
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", shown);
    for (const line of button.closest(".comparison").querySelectorAll(`.series[data-series="${button.dataset.series}"]`))
      line.classList.toggle("hidden", !shown);
  });
}
// a long table shows only the best rows until the user requests all or searches
for (const button of document.querySelectorAll(".all"))
  button.addEventListener("click", () => {
    const comparison = button.closest(".comparison");
    comparison.classList.remove("short");
    for (const other of comparison.querySelectorAll(".all")) other.parentElement.remove();
  });
for (const input of document.querySelectorAll(".search input")) {
  const comparison = input.closest(".comparison");
  const rows = [...comparison.querySelectorAll("tbody [data-rank]")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const runs = new Map([...comparison.querySelectorAll(".group")].map((group) => [group.dataset.rank, group]));
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let matches = 0;
    rows.forEach((row, place) => {
      const fits = words.every((word) => texts[place].includes(word));
      matches += fits;
      row.classList.toggle("hidden", !fits);
      runs.get(row.dataset.rank).classList.toggle("hidden", !fits);
    });
    comparison.classList.toggle("searched", words.length > 0);
    comparison.querySelector(".search output").textContent = words.length ? `${matches} of ${rows.length}` : "";
  });
}
// a tap describes the nearest point or line of a chart, like hovering
const tip = document.createElement("div");
tip.className = "tip hidden";
tip.setAttribute("role", "status");
document.body.append(tip);
const distance = (x, y, mark) => {
  const matrix = mark.getScreenCTM();
  if (mark.tagName !== "polyline") {
    const box = mark.getBoundingClientRect();
    return Math.hypot(x - (box.left + box.right) / 2, y - (box.top + box.bottom) / 2);
  }
  const points = [...mark.points].map((point) => point.matrixTransform(matrix));
  return Math.min(...points.slice(1).map((b, place) => { // to each segment of the line
    const a = points[place], [dx, dy] = [b.x - a.x, b.y - a.y];
    const share = Math.min(1, Math.max(0, ((x - a.x) * dx + (y - a.y) * dy) / (dx * dx + dy * dy || 1)));
    return Math.hypot(x - a.x - share * dx, y - a.y - share * dy);
  }));
};
document.addEventListener("click", (event) => {
  const chart = event.target.closest(".charts svg");
  let nearest = null, least = 24;
  for (const mark of chart ? chart.querySelectorAll(".point, .series:not(.hidden) .mean, .series:not(.hidden) circle") : []) {
    const away = distance(event.clientX, event.clientY, mark);
    if (away < least) [nearest, least] = [mark, away];
  }
  tip.classList.toggle("hidden", !nearest);
  if (!nearest) return;
  tip.textContent = (nearest.querySelector("title") ?? nearest.parentElement.querySelector("title")).textContent;
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${scrollX + Math.max(8, Math.min(event.clientX + 8, room))}px`;
  tip.style.top = `${scrollY + event.clientY + 12}px`;
});
for (const button of document.querySelectorAll(".command button")) {
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch { // not allowed for local files: select the text instead
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 2000);
  });
}
