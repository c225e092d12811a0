/* What a run says of its test rows, drawn: reliability, risk, classes, and what its head chose among. */
const drawing = (title, ...children) => make("figure", {}, make("figcaption", {}, title), ...children);
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const PERCENTS = [0, 0.25, 0.5, 0.75, 1].map((v) => [v, `${100 * v} %`]);

/* A table of texts; the first column names the line. */
function tableOf(caption, head, lines, attributes = {}) {
  return make("table", { class: "small", ...attributes }, caption ? make("caption", {}, caption) : "", make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...lines.map((cells) => make("tr", {}, ...cells.map((cell, i) => make(i ? "td" : "th", i ? {} : { scope: "row" }, cell))))));
}

function drawReliability(box, detail) {
  const most = Math.max(...detail.bins), plot = frame(box, { label: "Reliability: accuracy by confidence", height: 300,
    x: { values: [0, 1], domain: [0, 1], label: "confidence", ticks: PERCENTS }, y: { values: [0, 1], domain: [0, 1], label: "accuracy", ticks: PERCENTS } });
  const { X, Y } = plot, wide = (X(1) - X(0)) / 15 - 2;
  detail.bins.forEach((count, i) => {
    const x = X((Math.min(14, Math.floor(detail.confidence[i] * 15 - 1e-9)) + 0.5) / 15), tall = 60 * (count / most);
    plot.svg.append(draw("rect", { x: x - wide / 2, width: wide, y: Y(0) - tall, height: tall, class: "count", "aria-hidden": "true" }));
  });
  plot.svg.append(line([[X(0), Y(0)], [X(1), Y(1)]], { class: "line ideal" }));
  plot.svg.append(line(detail.confidence.map((c, i) => [X(c), Y(detail.accuracy[i])]), { stroke: colour(0) }));
  detail.bins.forEach((count, i) => plot.svg.append(mark(symbol(X(detail.confidence[i]), Y(detail.accuracy[i]), 0, 4, { fill: colour(0) }),
    `${plural(count, "row")}: confidence ${percent(detail.confidence[i])}, right ${percent(detail.accuracy[i])}`)));
  walkable(plot.svg);
}

function drawRisk(box, detail) {
  const risk = detail.risk.map((share) => 100 * share);
  const plot = frame(box, { label: "Risk against coverage", height: 300, x: { values: [0, 1], domain: [0, 1], label: "answered, the most confident rows first", ticks: PERCENTS },
    y: { values: risk, domain: [0, Math.max(1, ...risk) * 1.05], label: "wrong among these (%)" } });
  const at = detail.coverage.map((c, i) => [plot.X(c), plot.Y(risk[i])]);
  plot.svg.append(line(at, { stroke: colour(0) }));
  detail.coverage.forEach((c, i) => {
    if (i % 6 && i !== detail.coverage.length - 1) return;
    plot.svg.append(mark(symbol(...at[i], 0, 3.5, { fill: colour(0) }), `${percent(c)} answered, ${percent(detail.risk[i])} of these wrong`));
  });
  walkable(plot.svg);
}

/* Classes, the worst first: a bar each, and those of many classes in a table that scrolls. */
function classTable(detail, classes) {
  const order = detail.n.map((_, i) => i).filter((i) => detail.n[i]).sort((a, b) => detail.right[a] / detail.n[a] - detail.right[b] / detail.n[b]);
  const cut = 200, lines = order.slice(0, cut).map((i) => {
    const share = detail.right[i] / detail.n[i], bar = make("i", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", `${100 * share}%`);
    return [classes[i], make("span", { class: "share" }, bar, percent(share)), detail.n[i].toLocaleString("en")];
  });
  const found = make("div", { class: "tall", tabindex: "0", role: "region", "aria-label": "Accuracy of each class" }, tableOf("", ["class", "right", "test rows"], lines));
  return order.length > cut ? [found, make("p", { class: "soft" }, `The ${cut} worst of ${order.length} classes.`)] : [found];
}

/* What was searched: the number with most values across, a line for each setting of the others. */
function drawSearch(box, searched, chosen) {
  const { names, values } = searched, score = names.indexOf("score");
  const scored = score < 0 ? [] : values.filter((v) => typeof v[score] === "number");
  const others = names.map((name, at) => ({ name, at })).filter(({ at, name }) => at !== score && name !== "epochs");
  const numeric = others.filter(({ at }) => scored.every((v) => typeof v[at] === "number"))
    .map((one) => ({ ...one, n: new Set(scored.map((v) => v[one.at])).size })).sort((a, b) => b.n - a.n)[0];
  if (!numeric || numeric.n < 2) {
    return box.replaceChildren(values.length ? tableOf("", names, values.slice(0, 30).map((v) => v.map((one) => (typeof one === "number" ? short(one) : String(one ?? "–"))))) : "");
  }
  const rest = others.filter(({ at }) => at !== numeric.at), groups = new Map();
  for (const v of scored) {
    const name = rest.map(({ name, at }) => `${name} ${v[at]}`).join(", ") || "score";
    if (!groups.has(name)) groups.set(name, []);
    const isChosen = chosen && Object.entries(chosen).every(([key, value]) => { const at = names.indexOf(key); return at < 0 || v[at] === value || (typeof value === "number" && Math.abs(v[at] - value) <= 1e-4 * Math.abs(value)); });
    groups.get(name).push({ x: v[numeric.at], value: v[score], text: `${numeric.name} ${short(v[numeric.at])}${isChosen ? ", chosen" : ""}`, chosen: isChosen });
  }
  const xs = scored.map((v) => v[numeric.at]), log = Math.min(...xs) > 0 && Math.max(...xs) / Math.min(...xs) > 20;
  const series = [...groups].map(([name, points]) => ({ name, points: points.sort((a, b) => a.x - b.x) }))
    .sort((a, b) => Math.max(...b.points.map((p) => p.value)) - Math.max(...a.points.map((p) => p.value)));
  drawSeries(box, `Score by ${numeric.name}`, series.slice(0, N_COLOURS), { label: numeric.name, log }, { measure: { metric: "score while choosing" }, height: 280 });
  if (chosen) box.append(make("p", { class: "soft" }, `Chosen: ${Object.entries(chosen).map(([key, value]) => `${key} ${typeof value === "number" ? short(value) : value}`).join(", ")}.`));
}
