/* The table. Its rows are made once for each set of columns, and only put into order afterwards. */
const PAGE = 50, STEP = 200;
let shownRows = PAGE, made = { key: "", head: "", rows: new Map(), ranges: [] };

function heading(label, by, firstDown, kind = "") {
  const active = sortedBy() === by;
  const th = make("th", { scope: "col", class: kind, "aria-sort": active ? (descending() ? "descending" : "ascending") : null });
  th.append(button(label, () => {
    const down = sortedBy() === by ? !descending() : firstDown;
    change({ sort: (down ? "-" : "") + by });
    document.querySelector(`[data-sort="${CSS.escape(by)}"]`).focus();
  }, { "data-sort": by }));
  return th;
}

function drawHead(columns) {
  const down = view().better === "higher", row = make("tr");
  data.fields.forEach((field, i) => row.append(heading(field, `f:${field}`, false, i ? "field" : "")));
  row.append(heading("rank", "rank", false, "rank"));
  for (const column of columns) row.append(heading(column.label, column.key, column.kind === "fact" ? false : down, "number"));
  $("board").tHead.replaceChildren(row);
}

function rangeOf(at) {
  const cells = view().lines.map((line) => line.cells[at]).filter(Boolean);
  return [Math.min(...cells.map((c) => c.low ?? c.value)), Math.max(...cells.map((c) => c.high ?? c.value))];
}

const marks = (cell) => ({ best: " *", tied: " ~" }[cell.mark] || "") + (cell.not_above ? " ‡" : "") + (cell.selected_on ? " †" : "");

function scoreCell(cell, [low, high]) {
  const td = make("td", { class: "number" });
  if (!cell) return fill(td, {}, [make("span", { class: "missing" }, "missing")]);
  const value = make("span", { class: cell.mark === "best" ? "best" : "value" }, spelled(cell.value, view()) + marks(cell));
  if (cell.low === null) return fill(td, {}, [value]);
  const at = (x) => `${(high > low ? (100 * (x - low)) / (high - low) : 50).toFixed(1)}%`;
  const bar = make("i", { class: "span", "aria-hidden": "true" });
  for (const [name, x] of [["--low", cell.low], ["--high", cell.high], ["--at", cell.value]]) bar.style.setProperty(name, at(x));
  td.append(value, make("span", { class: "bounds" }, ` ${spelled(cell.low, view())} to ${spelled(cell.high, view())}`), bar);
  return td;
}

function rankText(line) {
  if (!line.rank) return "-";
  const [rank, low, high] = line.rank.map((x) => +x.toPrecision(3));
  return `${rank} [${low}, ${high}]`;
}

function makeRow(line, columns) {
  const row = data.rows[line.row], name = names[line.row];
  const open = make("button", { type: "button", "data-row": line.row, "aria-expanded": "false", "aria-label": `${name}: look into its runs` }, row.fields[0]);
  const first = make("th", { scope: "row" }, open, ...row.fields.slice(1).map((field) => make("span", { class: "sub" }, field)),
    make("span", { class: "sub rankline" }, `rank ${rankText(line)}`));
  const tr = make("tr", { "data-place": line.row }, first, ...row.fields.slice(1).map((field) => make("td", { class: "field" }, field)),
    make("td", { class: "rank", title: line.note || null }, rankText(line)));
  for (const column of columns) {
    if (column.kind === "score") tr.append(scoreCell(line.cells[column.at], made.ranges[column.at]));
    else if (column.kind === "average") tr.append(make("td", { class: "number" }, spelled(averageOf(line), view())));
    else tr.append(make("td", { class: "number" }, column.fact.show(column.fact.of(row))));
  }
  return tr;
}

function drawTable() {
  const columns = shownColumns(), key = `${state.metric}|${columns.map(({ key }) => key).join("|")}`;
  if (key !== made.key) made = { key, head: "", rows: new Map(), ranges: view().columns.map((_, at) => rangeOf(at)) };
  if (made.head !== state.sort) drawHead(columns);
  made.head = state.sort;
  const lines = visibleLines(), cut = lines.slice(0, shownRows), openPlace = placeOf.get(state.open);
  const wanted = lines.find((line) => line.row === openPlace);
  if (wanted && !cut.includes(wanted)) cut.push(wanted);
  const rows = cut.flatMap((line) => {
    if (!made.rows.has(line.row)) made.rows.set(line.row, makeRow(line, columns));
    const tr = made.rows.get(line.row), isOpen = line.row === openPlace;
    tr.classList.toggle("open", isOpen);
    tr.querySelector("button").setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) return [tr];
    const detail = detailRow();
    detail.firstChild.colSpan = columns.length + data.fields.length + 1;
    return [tr, detail];
  });
  if (!lines.length) {
    rows.push(make("tr", { class: "nothing" }, make("td", { colspan: columns.length + data.fields.length + 1 }, `${nothingLeft()} `,
      button("Clear the filter", () => { change({ filter: "" }); $("filter").focus(); }))));
  }
  const body = $("board").tBodies[0], there = [...body.rows];
  // Where rows only join those that stand, these stay: what is taken out is styled and laid out anew.
  if (there.length < rows.length && there.every((row, i) => row === rows[i])) body.append(...rows.slice(there.length));
  else if (there.length !== rows.length || rows.some((row, i) => row !== there[i])) body.replaceChildren(...rows);
  $("count").textContent = `${lines.length} of ${view().lines.length} rows`;
  $("more").hidden = lines.length <= shownRows;
  $("more-rows").textContent = `Show ${Math.min(PAGE, lines.length - shownRows)} more`;
  $("all-rows").textContent = `Show all ${lines.length}`;
}

/* Many rows come some at a time, so that the page answers in between; whoever sorts or filters meanwhile ends it. */
function showMore(count) {
  const next = Math.min(count, shownRows + STEP);
  shownRows = next;
  drawTable();
  if (next < count && !$("more").hidden) requestAnimationFrame(() => setTimeout(() => { if (shownRows === next) showMore(count); }, 0));
}

function openRow(place) {
  const close = place === null || names[place] === state.open;
  const before = placeOf.get(state.open);
  change({ open: close ? "" : names[place], run: "", compare: "" });
  const button = document.querySelector(`button[data-row="${close ? before : place}"]`);
  if (button && document.activeElement === document.body) button.focus({ preventScroll: true });
}

/* Anywhere in a row opens it; the button is there for the keyboard. */
function onTableClick(event) {
  const tr = event.target.closest("tr[data-place]");
  if (!tr || getSelection().toString()) return;
  openRow(Number(tr.dataset.place));
  document.querySelector(`button[data-row="${tr.dataset.place}"]`)?.focus({ preventScroll: true });
}

function onTableKey(event) {
  const own = event.target.closest("button[data-row]");
  if (!own || !["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) return;
  const buttons = [...document.querySelectorAll("button[data-row]")], at = buttons.indexOf(own);
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
  buttons[next]?.focus();
  event.preventDefault();
}
