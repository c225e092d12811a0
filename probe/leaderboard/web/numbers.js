/* Numbers to predict: predicted against true with intervals, residuals, how they are spread, and errors by group. */
function drawAgainst(box, column, name, rows) {
  const { low, high } = column, unit = column.unit ? ` (${column.unit})` : "";
  const plot = frame(box, { label: `Predicted against true: ${name}`, height: 320, x: { values: column.true, label: `true${unit}` },
    y: { values: [...column.predicted, ...(low || []), ...(high || []), ...column.true], label: `predicted${unit}` } });
  const ends = [Math.min(...column.true), Math.max(...column.true)];
  plot.svg.append(line(ends.map((v) => [plot.X(v), plot.Y(v)]), { class: "line ideal" }));
  column.true.forEach((value, i) => {
    const x = plot.X(value), p = column.predicted[i];
    if (low) plot.svg.append(draw("line", { x1: x, x2: x, y1: plot.Y(low[i]), y2: plot.Y(high[i]), class: "interval", "aria-hidden": "true" }));
    const text = `true ${short(value)}, predicted ${short(p)}${low ? `, interval ${short(low[i])} to ${short(high[i])}` : ""}`;
    plot.svg.append(mark(symbol(x, plot.Y(p), 0, 3, { fill: colour(0), "fill-opacity": 0.75 }), text));
  });
  walkable(plot.svg);
  const words = `${plural(column.true.length, "row")} of ${rows}, spread over the true numbers.`;
  box.append(make("p", { class: "soft" }, low ? `${words} Bars are the intervals, of the head that calibration fitted on fewer rows: they need not lie around the prediction.` : words));
}

function drawResiduals(box, column, name) {
  const unit = column.unit ? ` (${column.unit})` : "", residuals = column.true.map((value, i) => value - column.predicted[i]);
  const plot = frame(box, { label: `Residuals: ${name}`, height: 260, x: { values: column.predicted, label: `predicted${unit}` }, y: { values: [...residuals, 0], label: "true less predicted" } });
  plot.svg.append(draw("line", { x1: plot.left, x2: plot.width - plot.right, y1: plot.Y(0), y2: plot.Y(0), class: "line ideal" }));
  residuals.forEach((r, i) => plot.svg.append(mark(symbol(plot.X(column.predicted[i]), plot.Y(r), 0, 3, { fill: colour(0), "fill-opacity": 0.75 }),
    `predicted ${short(column.predicted[i])}, residual ${short(r)}`)));
  walkable(plot.svg);
}

function drawSpread(box, column, name) {
  const residuals = column.true.map((value, i) => value - column.predicted[i]), [low, high] = [Math.min(...residuals), Math.max(...residuals)];
  const n = Math.max(5, Math.min(30, Math.ceil(Math.sqrt(residuals.length)))), step = (high - low) / n || 1, counts = new Array(n).fill(0);
  for (const r of residuals) counts[Math.min(n - 1, Math.floor((r - low) / step))]++;
  const plot = frame(box, { label: `How residuals are spread: ${name}`, height: 260, x: { values: [low, high], label: "true less predicted" }, y: { values: counts, domain: [0, Math.max(...counts) * 1.08], label: "rows" } });
  counts.forEach((count, i) => {
    const [a, b] = [plot.X(low + i * step), plot.X(low + (i + 1) * step)];
    plot.svg.append(mark(draw("rect", { x: a + 0.5, width: Math.max(1, b - a - 1), y: plot.Y(count), height: plot.Y(0) - plot.Y(count), fill: colour(0) }),
      `${short(low + i * step)} to ${short(low + (i + 1) * step)}: ${plural(count, "row")}`));
  });
  walkable(plot.svg);
}

function groupTable(detail, k, unit) {
  const order = detail.groups.map((_, i) => i).sort((a, b) => detail.groups[b][2][k][0] - detail.groups[a][2][k][0]);
  const largest = Math.max(...detail.groups.map((group) => group[2][k][0])) || 1;
  const lines = order.map((i) => {
    const [name, rows, errors] = detail.groups[i], [value, low, high] = errors[k], bar = make("i", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", `${(100 * value) / largest}%`);
    return [name, make("span", { class: "share" }, bar, short(value)), make("span", { class: "whole" }, low === undefined ? "–" : `${short(low)} to ${short(high)}`), rows.toLocaleString("en")];
  });
  const found = make("div", { class: "tall", tabindex: "0", role: "region", "aria-label": "Mean absolute error of each group" },
    tableOf("", ["group", `mean |true less predicted|${unit ? `, ${unit}` : ""}`, "95 %", "test rows"], lines));
  return detail.n_groups > order.length ? [found, make("p", { class: "soft" }, `The ${order.length} groups with the most test rows, of ${detail.n_groups}.`)] : [found];
}

function numberDrawings(run, detail) {
  const found = [];
  if (detail.overlays) found.push([drawing("The best, the median and the worst test image, by its own RMSE", make("img", { src: detail.overlays, class: "overlays", decoding: "async",
    alt: "Three test images, each beside its numbers and those that are predicted, from violet for the smallest to yellow for the largest" }))]);
  detail.columns.forEach((column, k) => {
    const name = (data.classes[run.classes] || [])[k] || `column ${k + 1}`;
    for (const [id, title, act] of [["against", "Predicted against true", (box) => drawAgainst(box, column, name, detail.rows)],
      ["residuals", "Residuals", (box) => drawResiduals(box, column, name)], ["spread", "How residuals are spread", (box) => drawSpread(box, column, name)]]) {
      const box = make("div", { id: `${id}-${k}`, class: "plot" });
      found.push([drawing(`${title}: ${name}`, box), () => act(box)]);
    }
    if (detail.groups) found.push([drawing(`Error by group, the worst first: ${name}`, ...groupTable(detail, k, column.unit))]);
  });
  return found;
}
