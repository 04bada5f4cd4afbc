"use strict";
(() => {
  const make = (name, text, attributes = {}) => {
    const element = document.createElement(name);
    if (text) element.textContent = text;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const key = (row, place) => {
    const cell = row.cells[place];
    if (!cell || cell.classList.contains("none") || cell.colSpan > 1) return null;
    // Behind a name stand what was found and a button.
    return cell.dataset.v === undefined ? (cell.firstChild?.textContent ?? "") : Number(cell.dataset.v);
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

  // Rows without a value stay at the end in both directions; a third press is the order of the file.
  const sort = (table, place, direction) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => a.dataset.n - b.dataset.n);
    if (direction) {
      const keys = new Map(rows.map((row) => [row, key(row, place)]));
      rows.sort((a, b) => {
        const [x, y] = [keys.get(a), keys.get(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        return direction * compare(x, y);
      });
    }
    body.append(...rows);
  };
  for (const table of document.querySelectorAll("table")) {
    [...table.tBodies[0].rows].forEach((row, n) => { row.dataset.n = n; });
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, place) => {
      if (head.dataset.fixed !== undefined || table.tBodies[0].rows.length < 2) return;
      const button = make("button", head.textContent.trim(), { type: "button" });
      head.textContent = "";
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const numbers = head.classList.contains("n");
        const steps = numbers ? ["none", "descending", "ascending"] : ["none", "ascending", "descending"];
        const next = steps[(steps.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
        for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", next);
        sort(table, place, { none: 0, ascending: 1, descending: -1 }[next]);
      });
    });
    if (table.tBodies[0].rows.length < 6) continue;
    const tools = make("div", "", { class: "tools" });
    const label = make("label", "Search ");
    const input = make("input", "", { type: "search" });
    const shown = make("span", "", { class: "dim", "aria-live": "polite" });
    label.append(input);
    tools.append(label, shown);
    table.parentElement.before(tools);
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        count += !row.hidden;
      }
      shown.textContent = words.length ? `${count} of ${table.tBodies[0].rows.length} rows` : "";
    });
  }

  const rows = new Map([...document.querySelectorAll("tr[data-label]")].map((row) => [row.dataset.label, row]));
  const channels = JSON.parse(document.getElementById("channels").textContent);
  const dialog = make("dialog");
  document.body.append(dialog);
  const showChannels = (label, columns) => {
    const close = make("button", "Close", { type: "button" });
    close.addEventListener("click", () => dialog.close());
    const titles = Object.keys(columns);
    const table = make("table");
    const head = table.createTHead().insertRow();
    for (const title of ["channel", ...titles]) head.append(make("th", title, { scope: "col", class: "n" }));
    const body = table.createTBody();
    for (let c = 0; c < Math.max(...titles.map((title) => columns[title].length)); c++) {
      const row = body.insertRow();
      row.append(make("th", String(c), { scope: "row", class: "n" }));
      for (const title of titles) row.append(make("td", String(columns[title][c] ?? "–"), { class: "n" }));
    }
    const heading = make("h2", `${label}: by channel`, { id: "channels-of" });
    dialog.setAttribute("aria-labelledby", "channels-of");
    dialog.replaceChildren(heading, close, table);
    dialog.showModal();
  };
  for (const [id, columns] of Object.entries(channels)) {
    const row = document.getElementById(id);
    const cell = row.cells[0];
    const label = row.dataset.label;
    const button = make("button", "channels", { type: "button", "aria-label": `channels of ${label}` });
    button.addEventListener("click", () => showChannels(label, columns));
    cell.append(button);
  }

  const tip = make("div", "", { id: "tip", role: "tooltip", hidden: "" });
  document.body.append(tip);
  const markOf = (event) => event.target.closest?.(".plot svg [aria-label]");
  document.addEventListener("pointermove", (event) => {
    const mark = markOf(event);
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.getAttribute("aria-label");
    tip.style.left = `${Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 8)}px`;
  });
  document.addEventListener("click", (event) => {
    const said = markOf(event)?.getAttribute("aria-label");
    if (!said) return;
    let row = null;
    for (const [label, found] of rows) if (said.startsWith(`${label} — `)) row = found;
    if (!row) return;
    document.querySelector("tr.found")?.classList.remove("found");
    row.classList.add("found");
    row.hidden = false;
    row.scrollIntoView({ block: "center" });
  });
  document.documentElement.dataset.ready = "";
})();
