"use strict";
// a click on a column's head sorts by it; what is lacking stays at the end
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
// a click on a name hides or shows its curves
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", shown);
    for (const line of document.querySelectorAll(`.series[data-series="${button.dataset.series}"]`))
      line.classList.toggle("hidden", !shown);
  });
}
for (const button of document.querySelectorAll(".command button")) {
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch { // a page from a file may not: the text is selected instead
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 2000);
  });
}
