/* Learning curves, and scores by layer, where there are some. */
function curvesOf(dataset) {
  return visibleLines().map((line) => {
    const row = data.rows[line.row];
    const points = view().columns.map((name, at) => ({ cell: line.cells[at], place: row.cells[name] }))
      .filter(({ cell, place }) => cell && place && place.data === dataset).sort((a, b) => a.place.n_rows - b.place.n_rows);
    return { line, points };
  }).filter(({ points }) => new Set(points.map(({ place }) => place.n_rows)).size > 1);
}

const datasetsWithCurves = () => [...new Set(data.rows.flatMap((row) => Object.values(row.cells).map((cell) => cell.data)))].filter((name) => curvesOf(name).length);

function seriesKey(box, entries) {
  const shown = entries.slice(0, N_COLOURS);
  box.append(make("div", { class: "key" }, ...shown.map((text, i) => make("span", {}, draw("svg", { width: 16, height: 14, viewBox: "-8 -7 16 14", "aria-hidden": "true" },
    draw("path", { d: "M-8,0H8", stroke: colour(i), "stroke-width": 2 }), draw("path", { d: MARKERS[i % MARKERS.length](4), fill: colour(i) })), ` ${text}`))));
  if (entries.length > shown.length) box.lastChild.append(make("span", { class: "soft" }, `and ${entries.length - shown.length} more, told by their marks`));
}

/* Lines with intervals: series of {name, points: [{x, value, low, high, text}]}. */
function drawSeries(box, label, series, x, { measure = view(), height = 340 } = {}) {
  const all = series.flatMap(({ points }) => points), holder = make("div");
  box.replaceChildren(holder);
  const unit = unitOf(measure), plot = frame(holder, { label, height, x: { values: all.map((p) => p.x), room: 0.04, ...x },
    y: { values: all.flatMap((p) => [p.low ?? p.value, p.high ?? p.value].map((v) => scaled(v, measure))), label: `${called(measure.metric || "score")}${unit ? ` (${unit})` : ""}` } });
  series.forEach(({ name, points }, i) => {
    const at = points.map((p) => [plot.X(p.x), plot.Y(scaled(p.value, measure))]);
    plot.svg.append(line(at, { stroke: colour(i) }));
    points.forEach((p, j) => {
      if (typeof p.low === "number") {
        plot.svg.append(draw("line", { x1: at[j][0], x2: at[j][0], y1: plot.Y(scaled(p.low, measure)), y2: plot.Y(scaled(p.high, measure)), stroke: colour(i), "stroke-opacity": 0.6 }));
      }
      plot.svg.append(mark(symbol(...at[j], i, 4, { fill: colour(i) }), `${name}, ${p.text}: ${spelled(p.value, measure)}`));
    });
  });
  walkable(plot.svg);
  if (series.length > 1) seriesKey(box, series.map(({ name }) => name));
}

function drawCurves() {
  const dataset = $("curves-data").value;
  drawSeries($("curves"), `${called(view().metric)} against training rows`, curvesOf(dataset).slice(0, 20).map(({ line, points }) => ({
    name: names[line.row],
    points: points.map(({ cell, place }) => ({ x: place.n_rows, value: cell.value, low: cell.low, high: cell.high, text: `${place.n_rows.toLocaleString("en")} rows` })),
  })), { label: "training rows, validation included", log: true });
}

function drawLayers() {
  const depth = data.layers[Number($("layers-of").value)], measure = data.views[0];
  if (depth.heads.length) return drawHeads($("layers"), depth, measure);
  const points = depth.layers.map((layer, i) => ({ x: i, value: depth.value[i], low: depth.low[i], high: depth.high[i], text: layer })).filter((p) => p.value !== null);
  const every = Math.ceil(depth.layers.length / 14);
  drawSeries($("layers"), `${called(measure.metric)} by layer: ${depth.name}`, [{ name: depth.name, points }, ...chosenLayers(depth)],
    { label: "layer", ticks: depth.layers.map((name, i) => [i, name.length > 12 ? `…${name.slice(-11)}` : name]).filter((_, i) => i % every === 0) }, { measure });
}

function chosenLayers(depth) {
  return depth.chosen.map((one) => ({ name: one.name, points: one.places.map((i) => ({ x: i, value: one.value, low: one.low, high: one.high, text: `${one.name}: ${depth.layers[i]}` })) }));
}

function drawHeads(box, depth, measure) {
  const known = depth.value.flat().filter((v) => v !== null), [low, high] = [Math.min(...known), Math.max(...known)];
  heatmap(box, { label: `${called(measure.metric)} by layer and attention head: ${depth.name}`, rows: depth.layers, columns: depth.heads.map(String), x: "attention head", y: "layer",
    entries: depth.value.flatMap((of_layer, i) => of_layer.map((v, j) => ({ i, j, share: v === null ? 0 : (v - low) / (high - low || 1),
      text: `${depth.layers[i]}, head ${depth.heads[j]}: ${spelled(v, measure)}` }))) });
}

function showSection(id, entries, onChange, value) {
  $(`${id}-section`).hidden = !entries.length;
  if (!entries.length) return;
  const select = $(`${id}-${id === "layers" ? "of" : "data"}`);
  select.replaceChildren(...entries.map(([key, text]) => make("option", { value: key }, text)));
  if (value && entries.some(([key]) => key === value)) select.value = value;
  onChange();
}
