"use strict";
(() => {
  // Missing values (empty keys) stay last in both directions; equal keys keep their order.
  const compare = (column, numeric, sign) => (a, b) => {
    const x = a.cells[column].dataset.key;
    const y = b.cells[column].dataset.key;
    if (x === "" || y === "") return (x === "") - (y === "");
    return sign * (numeric ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true }));
  };

  const sort = (table, head) => {
    const descending = head.ariaSort === "ascending";
    for (const other of head.parentElement.cells) other.ariaSort = "none";
    head.ariaSort = descending ? "descending" : "ascending";
    const order = compare(head.cellIndex, "numeric" in head.dataset, descending ? -1 : 1);
    for (const body of table.tBodies) {
      body.append(...[...body.rows].filter((row) => !row.classList.contains("group")).sort(order));
    }
  };

  const filter = (tools, table) => {
    const words = tools.querySelector("input").value.toLowerCase().split(/\s+/).filter(Boolean);
    const facets = [...tools.querySelectorAll("select")].filter((select) => select.value);
    let shown = 0;
    let total = 0;
    for (const body of table.tBodies) {
      const group = body.querySelector(".group");
      const head = group ? group.textContent : "";
      let here = 0;
      for (const row of body.rows) {
        if (row === group) continue;
        const text = `${head} ${row.textContent}`.toLowerCase();
        const kept = words.every((word) => text.includes(word))
          && facets.every((select) => row.dataset[`f${select.dataset.facet}`] === select.value);
        row.hidden = !kept;
        here += kept;
        total += 1;
      }
      body.hidden = here === 0;
      shown += here;
    }
    tools.querySelector(".shown").textContent = `${shown} of ${total} rows`;
  };

  for (const table of document.querySelectorAll("table.data")) {
    for (const head of table.tHead.rows[0].cells) {
      head.querySelector("button").addEventListener("click", () => sort(table, head));
    }
  }

  for (const tools of document.querySelectorAll(".tools")) {
    const table = document.getElementById(tools.dataset.for);
    tools.addEventListener("input", () => filter(tools, table));
    filter(tools, table);
    tools.hidden = false;
  }

  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
