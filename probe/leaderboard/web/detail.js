/* One row, opened: how its numbers came about, and a run of it to look into. */
let opened = { key: "", row: null, pending: [] };

function detailRow() {
  const key = [state.metric, state.open, state.run, state.compare].join("|");
  if (opened.key !== key) {
    const pending = [], place = placeOf.get(state.open), inner = make("div", { id: "detail", role: "region", "aria-label": `Runs of ${state.open}` });
    inner.append(...detailOf(place, pending));
    opened = { key, row: make("tr", { class: "detail" }, make("td", {}, inner)), pending, drawn: false };
  }
  return opened.row;
}

/* Drawings want to know how wide they may be: they come once the row stands in the page. */
function drawDetail(again = false) {
  if (!state.open || !opened.row?.isConnected || (opened.drawn && !again)) return;
  opened.drawn = true;
  for (const act of opened.pending) act();
}

function redrawn(patch, id) {
  change(patch);
  $(id)?.focus();
}

function detailOf(place, pending) {
  const row = data.rows[place], runs = Object.values(row.cells).flatMap((cell) => cell.runs);
  const run = runAt(runs.find((i) => runAt(i).name === state.run) ?? preferred(row, runs));
  const others = view().lines.filter((line) => line.row !== place).map((line) => [names[line.row], names[line.row]]);
  const head = make("div", { class: "controls" }, make("h3", {}, state.open),
    others.length ? choice("Compare with", [["", "–"], ...others], state.compare, (value) => redrawn({ compare: value }, "compare"), { id: "compare" }) : "",
    button("Close", closeRow, { id: "close" }));
  const found = [head];
  if (state.compare) found.push(comparison(place, placeOf.get(state.compare), run.column));
  found.push(make("h4", {}, "How each number came about"), make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "How each number came about" }, origins(place)));
  const label = (i) => `${runAt(i).column}, seed ${drawOf(runAt(i))}`;
  found.push(make("h4", {}, "One run of it"), make("div", { class: "controls" },
    choice("Run", runs.map((i) => [runAt(i).name, label(i)]), run.name, (value) => redrawn({ run: value }, "run"), { id: "run" })), ...runOf(run, pending));
  return found;
}

/* The run that is shown first: of the column that the table is sorted by, else the first. */
function preferred(row, runs) {
  const [kind, column] = [sortedBy().slice(0, 2), sortedBy().slice(2)];
  return kind === "c:" && row.cells[column] ? row.cells[column].runs[0] : runs[0];
}

function closeRow() {
  const place = placeOf.get(state.open);
  change({ open: "", run: "", compare: "" });
  document.querySelector(`button[data-row="${place}"]`)?.focus();
}

function origins(place) {
  const row = data.rows[place], line = view().lineOf.get(place);
  const order = (name) => view().columns.indexOf(name);
  const lines = Object.entries(row.cells).sort(([a], [b]) => order(a) - order(b)).map(([name, cell]) => {
    const own = line?.cells[view().columns.indexOf(name)], runs = cell.runs.map(runAt), [first] = runs;
    const by_seed = runs.map((run) => `${drawOf(run)}: ${spelled(run.metrics[state.metric]?.[0], view())}`);
    const chosen = [...new Set(runs.map((run) => run.on).filter(Boolean))].join(", ") || (first.n.length ? "nothing was chosen" : "–");
    const [train, validation, test] = first.n.length ? first.n : ["–", "–", "–"];
    return [name, own ? bounded(own, view()) + marks(own) : "–",
      by_seed.slice(0, 12).join("; ") + (by_seed.length > 12 ? "; …" : ""), first.protocol, `${train} + ${validation}`, String(test), chosen,
      `${short(cell.fit)} s`];
  });
  const unit = unitOf(view());
  return tableOf("", ["column", `${called(state.metric)}${unit ? `, ${unit}` : ""}: mean over seeds [95 %]`, "by seed", "protocol", "training + validation rows", "test rows", "chosen on", "fit"], lines);
}

function facts(pairs) {
  return make("dl", { class: "facts" }, ...pairs.filter(([, value]) => value).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function metricTable(run) {
  const units = new Set((run.detail?.columns || []).map((column) => column.unit)), own = units.size === 1 ? [...units][0] : "";
  const lines = Object.entries(run.metrics).map(([name, [value, low, high]]) => {
    const measure = data.measures[name] || {}, unit = (measure.significant && own) || unitOf(measure);
    return [called(name) + (unit ? `, ${unit}` : ""), spelled(value, measure), `${spelled(low, measure)} to ${spelled(high, measure)}`, measure.better || ""];
  });
  return tableOf("", ["metric", "value", "95 % of this run", "better"], lines, { class: "small metrics" });
}

function runOf(run, pending) {
  const seconds = Object.entries(run.seconds).map(([phase, spent]) => `${phase} ${short(spent)}`).join(", ");
  const chosen = run.chosen && Object.entries(run.chosen).map(([key, value]) => `${key} ${typeof value === "number" ? short(value) : value}`).join(", ");
  const command = run.command ? make("pre", { tabindex: "0", "aria-label": "The command that gives this run" }, run.command) : "";
  const found = [make("p", { class: "soft" }, run.name), command,
    facts([["commit", run.commit], ["made", run.created.slice(0, 16).replace("T", " ")], ["device", run.device], ["seconds", seconds], ["features of a row", run.width && String(run.width)],
      ["chosen", chosen && `${chosen} on ${run.on}`]])];
  const grid = make("div", { class: "grid" });
  if (Object.keys(run.metrics).length) grid.append(drawing("Metrics", metricTable(run)));
  found.push(grid);
  if (!run.detail && !run.searched) return [...found, make("p", { class: "soft" }, run.fault || `This page holds ${run.command ? "drawings" : "the records"} of the first runs of its table only, not of this one.`)];
  for (const [figure, act] of drawingsOf(run)) {
    grid.append(figure);
    if (act) pending.push(act);
  }
  return [...found, ...((run.detail && wrongRows(run)) || [])];
}

function drawingsOf(run) {
  const { detail, searched } = run, found = [];
  const add = (id, title, act) => { const box = make("div", { id, class: "plot" }); found.push([drawing(title, box), () => act(box)]); };
  if (searched?.values.length) add("search", "What was searched", (box) => drawSearch(box, searched, run.chosen));
  if (detail?.kind === "number") return [...found, ...numberDrawings(run, detail)];
  if (detail?.kind === "mask") return [...found, ...maskDrawings(detail, data.classes[run.classes])];
  if (!detail) return found;
  const classes = data.classes[run.classes];
  add("reliability", "Reliability; bars count rows", (box) => drawReliability(box, detail));
  add("risk", "Wrong among the most confident", (box) => drawRisk(box, detail));
  found.push([drawing("Accuracy of each class, the worst first", ...classTable(detail, classes))]);
  if (classes.length <= FEW) add("confusion", detail.cut ? "Confusion, its largest entries" : "Confusion, shares of the true class", (box) => drawConfusion(box, detail, classes));
  found.push([drawing("Commonest confusions", confusionTable(detail, classes))]);
  if (run.collapse) found.push([drawing("Neural collapse", collapseTable(run.collapse))]);
  return found;
}

/* NC1 to NC4, 0 where features and head have collapsed to their class means. */
function collapseTable(collapse) {
  const measures = [...new Set(Object.values(collapse).flatMap(Object.keys))];
  const lines = measures.map((name) => [name, ...["train", "test"].map((part) => name in (collapse[part] || {}) ? short(collapse[part][name]) : "–")]);
  return tableOf("", ["measure", "training rows", "test rows"], lines, { class: "small collapse" });
}
