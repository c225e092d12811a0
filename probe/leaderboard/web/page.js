"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const state = { sort: "rank", down: false, words: [], fields: {}, open: null };

/* Names only ever become text: textContent here, entities where Plotly reads its small markup. */
function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const number = (value) => (data.percent ? (100 * value).toFixed(1) : data.significant ? String(Number(value.toPrecision(4))) : value.toFixed(3));
const scale = (value) => (data.percent ? 100 * value : value);
const rowName = (row) => row.fields.join(" ");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* ---- table ---- */
const ranges = {};
for (const column of data.columns) {
  const cells = data.rows.map((row) => row.cells[column]).filter(Boolean);
  ranges[column] = [Math.min(...cells.map((c) => c.low)), Math.max(...cells.map((c) => c.high))];
}

function sortKey(row, by) {
  if (by === "rank") return row.rank ? row.rank[0] : null;
  const field = data.fields.indexOf(by.slice(2));
  if (by.startsWith("f:")) return row.fields[field];
  const cell = row.cells[by.slice(2)];
  return cell ? (data.better === "target" ? cell.badness : cell.value) : null;
}

function visibleRows() {
  const found = data.rows.map((row, place) => ({ row, place })).filter(({ row }) => {
    const text = rowName(row).toLowerCase();
    return state.words.every((word) => text.includes(word)) &&
      Object.entries(state.fields).every(([i, value]) => !value || row.fields[i] === value);
  });
  if (state.sort === "rank" && !state.down) return found;
  const sign = state.down ? -1 : 1;
  return found.sort((a, b) => {
    const [x, y] = [sortKey(a.row, state.sort), sortKey(b.row, state.sort)];
    if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
    const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
    return sign * order || a.place - b.place;
  });
}

function heading(label, by, firstDown) {
  const th = make("th", undefined, by.startsWith("c:") ? { scope: "col", class: "number" } : { scope: "col" });
  if (state.sort === by) th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
  const button = make("button", label, { type: "button", "data-sort": by });
  button.addEventListener("click", () => {
    state.down = state.sort === by ? !state.down : firstDown;
    state.sort = by;
    drawTable();
    document.querySelector(`[data-sort="${CSS.escape(by)}"]`).focus();
  });
  th.append(button);
  return th;
}

function cellOf(cell, column) {
  const td = make("td", undefined, { class: "number" });
  if (!cell) {
    td.append(make("span", "missing", { class: "missing" }));
    return td;
  }
  const mark = { best: " *", tied: " ~", "": "" }[cell.mark] + (cell.not_above ? " ‡" : "") + (cell.selected_on ? " †" : "");
  const value = make("span", number(cell.value) + mark, cell.mark === "best" ? { class: "best" } : {});
  const bounds = make("span", ` ${number(cell.low)} to ${number(cell.high)}`, { class: "bounds" });
  const [low, high] = ranges[column];
  const at = (x) => `${(high > low ? (100 * (x - low)) / (high - low) : 50).toFixed(2)}%`;
  const span = make("div", undefined, { class: "span", "aria-hidden": "true" });
  const line = make("i"), point = make("b");
  line.style.left = at(cell.low);
  line.style.right = `calc(100% - ${at(cell.high)})`;
  point.style.left = at(cell.value);
  span.append(line, point);
  td.append(value, bounds, span);
  td.title = `${cell.n_seeds} seed${cell.n_seeds === 1 ? "" : "s"}`;
  return td;
}

function drawTable() {
  const head = make("tr");
  data.fields.forEach((field) => head.append(heading(field, `f:${field}`, false)));
  head.append(heading("rank", "rank", false));
  data.columns.forEach((column) => head.append(heading(column, `c:${column}`, data.better === "higher")));
  $("board").tHead.replaceChildren(head);
  const rows = visibleRows();
  $("board").tBodies[0].replaceChildren(...rows.map(({ row, place }) => {
    const tr = make("tr", undefined, state.open === place ? { class: "open" } : {});
    row.fields.forEach((value, i) => {
      const cell = make(i ? "td" : "th", i ? value : undefined, i ? {} : { scope: "row" });
      if (!i) {
        const button = make("button", value, {
          type: "button", "data-row": place, "aria-expanded": String(state.open === place), "aria-controls": "detail",
          "aria-label": `${rowName(row)}: look into its runs`,
        });
        button.addEventListener("click", () => openRow(state.open === place ? null : place));
        cell.append(button);
      }
      tr.append(cell);
    });
    const rank = row.rank ? `${+row.rank[0].toPrecision(3)} [${+row.rank[1].toPrecision(3)}, ${+row.rank[2].toPrecision(3)}]` : "-";
    tr.append(make("td", rank, row.note ? { title: row.note } : {}));
    data.columns.forEach((column) => tr.append(cellOf(row.cells[column], column)));
    return tr;
  }));
  $("count").textContent = `${rows.length} of ${data.rows.length} rows`;
}

/* ---- plots ---- */
function plot(id, traces, layout) {
  const axis = { gridcolor: css("--grid"), linecolor: css("--line"), zeroline: false, automargin: true };
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 50, r: 15, t: 35, b: 45 },
    font: { color: css("--ink"), family: "system-ui, sans-serif" }, hovermode: "closest",
    legend: { orientation: "h", y: -0.22 }, ...layout,
  };
  base.xaxis = { ...axis, ...layout.xaxis };
  base.yaxis = { ...axis, ...layout.yaxis };
  Plotly.react(id, traces, base, { displaylogo: false, responsive: true, displayModeBar: false });
}
const scoreName = () => data.metric + (data.percent ? " (%)" : "");
const bars = (cells) => ({
  type: "data", symmetric: false, thickness: 1,
  array: cells.map((c) => scale(c.high - c.value)), arrayminus: cells.map((c) => scale(c.value - c.low)),
});

function pareto(points) {
  let best = Infinity;
  return [...points].sort((a, b) => a.x - b.x || a.badness - b.badness)
    .filter((p) => p.badness < best && ((best = p.badness), true));
}

function drawCost() {
  const column = $("cost-column").value, kind = $("cost-kind").value;
  const shown = visibleRows().map(({ row }) => row).filter((row) => row.cells[column] && row.cells[column][kind] > 0);
  const cells = shown.map((row) => row.cells[column]);
  const points = shown.map((row, i) => ({ x: cells[i][kind], y: scale(cells[i].value), badness: cells[i].badness, name: rowName(row) }));
  const front = pareto(points);
  plot("cost", [
    { name: "Pareto front", x: front.map((p) => p.x), y: front.map((p) => p.y), mode: "lines",
      line: { shape: "hv", color: css("--second"), dash: "dot" }, hoverinfo: "skip" },
    { name: "rows", x: points.map((p) => p.x), y: points.map((p) => p.y), text: points.map((p) => plain(p.name)),
      mode: points.length <= 12 && innerWidth > 600 ? "markers+text" : "markers", textposition: "top center", cliponaxis: false,
      textfont: { size: 11 }, marker: { color: css("--accent"), size: 9 }, error_y: { ...bars(cells), color: css("--soft") },
      hovertemplate: "%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>" },
  ], {
    xaxis: { title: { text: $("cost-kind").selectedOptions[0].textContent }, type: "log" },
    yaxis: { title: { text: plain(scoreName()) } },
  });
}

function curvesOf(dataset) {
  return data.rows.map((row) => {
    const cells = Object.values(row.cells).filter((cell) => cell.data === dataset).sort((a, b) => a.n_rows - b.n_rows);
    return { row, cells };
  }).filter(({ cells }) => new Set(cells.map((cell) => cell.n_rows)).size > 1);
}

function drawCurves() {
  plot("curves", curvesOf($("curves-data").value).map(({ row, cells }) => ({
    name: plain(rowName(row)), x: cells.map((c) => c.n_rows), y: cells.map((c) => scale(c.value)),
    error_y: bars(cells), mode: "lines+markers",
  })), { xaxis: { title: { text: "training rows, validation included" }, type: "log" }, yaxis: { title: { text: plain(scoreName()) } } });
}

/* ---- one row ---- */
function openRow(place) {
  state.open = place;
  drawTable();
  drawDetail();
  if (place === null) return;
  $("detail").scrollIntoView({ block: "nearest" });
  $("detail").focus({ preventScroll: true });
}

function drawDetail() {
  const box = $("detail");
  box.hidden = state.open === null;
  if (box.hidden) return box.replaceChildren();
  const row = data.rows[state.open];
  const label = make("label", "Run "), select = make("select", undefined, { id: "run" });
  row.runs.forEach((i) => select.append(make("option", `${data.runs[i].column}, seed ${data.runs[i].seed}`, { value: i })));
  label.append(select);
  const close = make("button", "Close", { type: "button", id: "close" });
  const body = make("div");
  const shut = () => {
    const place = state.open;
    openRow(null);
    document.querySelector(`[data-row="${place}"]`)?.focus();
  };
  close.addEventListener("click", shut);
  box.onkeydown = (event) => { if (event.key === "Escape") shut(); };
  select.addEventListener("change", () => drawRun(body, data.runs[select.value]));
  const controls = make("div", undefined, { class: "controls" });
  controls.append(label, close);
  box.replaceChildren(make("h2", rowName(row)), controls, body);
  if (row.note) box.append(make("p", row.note, { class: "soft" }));
  drawRun(body, data.runs[row.runs[0]]);
}

function drawRun(body, run) {
  const facts = make("div", undefined, { class: "facts" });
  for (const [key, value] of Object.entries(run.metrics)) facts.append(make("span", `${key} ${value.toFixed(4)}`));
  for (const [key, value] of Object.entries(run.seconds)) facts.append(make("span", `${key} ${value.toFixed(2)} s`));
  if (run.chosen) facts.append(make("span", `chosen ${JSON.stringify(run.chosen)}`));
  if (run.device) facts.append(make("span", `device ${run.device}`));
  if (run.commit) facts.append(make("span", `commit ${run.commit.slice(0, 12)}`));
  const grid = make("div", undefined, { class: "grid" });
  body.replaceChildren(make("p", run.name, { class: "soft" }), make("h3", "The command that gives this run"),
    make("pre", run.command, { tabindex: "0" }), facts, grid);
  if (!run.detail) return grid.append(make("p", run.fault || "This page holds diagrams of its first runs only, not of this one.", { class: "soft" }));
  if (run.detail.kind === "number") return drawNumbers(grid, run.detail, data.classes[run.classes]);
  for (const [id, words] of [["reliability", "Reliability diagram"], ["risk", "Risk against coverage"], ["classes", "Accuracy of each class"], ["confusion", "Confusion matrix"]]) {
    grid.append(make("div", undefined, { id, class: "plot", role: "img", "aria-label": words }));
  }
  drawReliability(run.detail);
  drawRisk(run.detail);
  drawClasses(run.detail, data.classes[run.classes]);
  drawConfusion(run.detail, data.classes[run.classes]);
}

function drawNumbers(grid, detail, names) {
  detail.columns.forEach((column, k) => {
    const name = plain(names[k] + (column.unit ? `, ${column.unit}` : ""));
    for (const [id, words] of [[`against-${k}`, "Predicted against true"], [`errors-${k}`, "Errors"]]) {
      grid.append(make("div", undefined, { id, class: "plot", role: "img", "aria-label": `${words}: ${names[k]}` }));
    }
    const ends = [Math.min(...column.true, ...column.predicted), Math.max(...column.true, ...column.predicted)];
    const marker = { color: css("--accent"), size: 5, opacity: 0.6 }, line = { dash: "dot", color: css("--soft") };
    plot(`against-${k}`, [
      { x: ends, y: ends, mode: "lines", line, hoverinfo: "skip" },
      { x: column.true, y: column.predicted, mode: "markers", marker, hovertemplate: "true %{x:.4g}<br>predicted %{y:.4g}<extra></extra>" },
    ], { title: { text: `${name}: ${column.true.length} of ${detail.rows} rows` }, showlegend: false,
      xaxis: { title: { text: "true" } }, yaxis: { title: { text: "predicted" } } });
    plot(`errors-${k}`, [{ type: "histogram", x: column.true.map((value, i) => value - column.predicted[i]), marker: { color: css("--accent") } }],
      { title: { text: `${name}: true less predicted` }, showlegend: false, yaxis: { title: { text: "rows" } } });
  });
}

function drawReliability(detail) {
  plot("reliability", [
    { x: [0, 1], y: [0, 1], mode: "lines", line: { dash: "dot", color: css("--soft") }, hoverinfo: "skip" },
    { x: detail.confidence, y: detail.accuracy, mode: "lines+markers", line: { color: css("--accent") }, customdata: detail.bins,
      hovertemplate: "confidence %{x:.3f}<br>accuracy %{y:.3f}<br>%{customdata} rows<extra></extra>" },
  ], { title: { text: "Reliability, 15 bins" }, showlegend: false,
    xaxis: { title: { text: "confidence" }, range: [0, 1.02] }, yaxis: { title: { text: "accuracy" }, range: [0, 1.02] } });
}

function drawRisk(detail) {
  plot("risk", [{ x: detail.coverage, y: detail.risk, mode: "lines", line: { color: css("--accent") },
    hovertemplate: "%{x:.1%} answered, %{y:.1%} of these wrong<extra></extra>" }],
  { title: { text: "Wrong among the most confident rows" }, showlegend: false,
    xaxis: { title: { text: "answered" }, range: [0, 1.02], tickformat: ".0%" },
    yaxis: { title: { text: "wrong" }, rangemode: "tozero", tickformat: ".0%" } });
}

function drawClasses(detail, names) {
  const order = detail.n.map((_, i) => i).filter((i) => detail.n[i]).sort((a, b) => detail.right[a] / detail.n[a] - detail.right[b] / detail.n[b]);
  plot("classes", [{ type: "bar", x: order.map((i) => i + 1).map((_, at) => at), y: order.map((i) => (100 * detail.right[i]) / detail.n[i]),
    marker: { color: css("--accent") }, text: order.map((i) => plain(names[i])), textposition: "none", customdata: order.map((i) => detail.n[i]),
    hovertemplate: "%{text}<br>%{y:.1f}% of %{customdata} rows<extra></extra>" }],
  { title: { text: "Accuracy of each class (%)" }, yaxis: { range: [0, 100] }, xaxis: order.length > 20 ? { showticklabels: false }
    : { tickvals: order.map((_, at) => at), ticktext: order.map((i) => plain(names[i])), tickangle: -45 } });
}

function drawConfusion(detail, names) {
  const K = names.length, z = Array.from({ length: K }, () => new Array(K).fill(0));
  for (const [label, predicted, count] of detail.confusion) z[label][predicted] = count / detail.n[label];
  const few = K <= 20, ticks = few ? { tickvals: names.map((_, i) => i), ticktext: names.map(plain) } : {};
  plot("confusion", [{ type: "heatmap", z, zmin: 0, zmax: 1, colorscale: [[0, css("--paper")], [1, css("--accent")]], showscale: false,
    hovertemplate: "true %{y}, predicted %{x}: %{z:.1%}<extra></extra>" }],
  { title: { text: detail.cut ? "Confusion, its largest entries" : "Confusion (share of the true class)" },
    xaxis: { title: { text: "predicted" }, ...ticks, tickangle: -45, constrain: "domain" },
    yaxis: { title: { text: "true" }, autorange: "reversed", ...ticks } });
}

/* ---- start ---- */
function start() {
  data.fields.forEach((field, i) => {
    const values = [...new Set(data.rows.map((row) => row.fields[i]))].sort();
    if (values.length < 2) return;
    const label = make("label", `${field} `), select = make("select", undefined, { "data-field": i });
    select.append(make("option", "all", { value: "" }), ...values.map((value) => make("option", value, { value })));
    select.addEventListener("change", () => { state.fields[i] = select.value; drawTable(); drawCost(); });
    label.append(select);
    $("fields").append(label);
  });
  $("filter").addEventListener("input", (event) => {
    state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    drawTable();
    drawCost();
  });
  data.columns.forEach((column) => $("cost-column").append(make("option", column, { value: column })));
  const filled = (column) => data.rows.filter((row) => row.cells[column]).length;
  $("cost-column").value = [...data.columns].sort((a, b) => filled(b) - filled(a))[0];
  $("cost-column").addEventListener("change", drawCost);
  $("cost-kind").addEventListener("change", drawCost);
  const datasets = [...new Set(data.rows.flatMap((row) => Object.values(row.cells).map((cell) => cell.data)))]
    .filter((dataset) => curvesOf(dataset).length);
  datasets.forEach((dataset) => $("curves-data").append(make("option", dataset, { value: dataset })));
  $("curves-data").addEventListener("change", drawCurves);
  $("curves-section").hidden = !datasets.length;
  $("notes").append(...data.notes.map((note) => make("li", note)));
  if (data.problems.length) {
    $("problems").hidden = false;
    $("problems").querySelector("summary").textContent = `Not counted: ${data.problems.length}`;
    $("problems").querySelector("ul").append(...data.problems.map(([folder, reason]) => make("li", `${folder}: ${reason}`)));
  }
  const draw = () => { drawTable(); drawCost(); if (datasets.length) drawCurves(); drawDetail(); };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
start();
