/* Score against cost: a colour for each first field, a marker for each other one, names where they collide with nothing. */
const COSTS = { fit: "seconds to fit", extract: "seconds to extract features", parameters: "parameters of the backbone", width: "features of a row" };
const measureText = (() => {
  const context = document.createElement("canvas").getContext("2d");
  context.font = "11px system-ui, sans-serif";
  return (text) => context.measureText(text).width;
})();

function pareto(points) {
  let best = Infinity;
  return [...points].sort((a, b) => a.x - b.x || a.badness - b.badness).filter((p) => p.badness < best && ((best = p.badness), true));
}

/* Values of a field that get a look of their own, the others share the last one. */
function looks(values, count) {
  const distinct = [...new Set(values)];
  const own = distinct.length <= count ? distinct : distinct.slice(0, count - 1);
  return { own, others: distinct.length > own.length, of: (value) => (own.includes(value) ? own.indexOf(value) : count - 1) };
}

function legend(colours, shapes, fields) {
  const box = make("div", { class: "key" });
  const entry = (paint, shape, text) => {
    const icon = draw("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, draw("path", { d: MARKERS[shape](5), fill: paint }));
    box.append(make("span", {}, icon, ` ${text}`));
  };
  colours.own.forEach((value, i) => entry(colour(i), 0, value));
  if (colours.others) entry(colour(N_COLOURS - 1), 0, `other ${fields[0]}s`);
  if (shapes.own.length > 1) {
    shapes.own.forEach((value, i) => entry("var(--soft)", i, value));
    if (shapes.others) entry("var(--soft)", MARKERS.length - 1, "others");
  }
  return box;
}

/* Puts a name beside each point where it covers no other name and no point, and not the front if that can be; the best
   points choose first. */
function placeNames(svg, points, front, plot) {
  const boxes = points.map(({ px, py }) => [px - 6, py - 6, px + 6, py + 6]);
  const line = front.slice(1).map(([x, y], i) => [Math.min(x, front[i][0]), Math.min(y, front[i][1]) - 1, Math.max(x, front[i][0]), Math.max(y, front[i][1]) + 1]);
  const clear = (box, others) => !others.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1]);
  const free = (box) => box[0] >= plot.left && box[2] <= plot.width - 2 && box[1] >= 0 && box[3] <= plot.height - plot.bottom && clear(box, boxes);
  const group = draw("g", { class: "names", "aria-hidden": "true" });
  for (const point of [...points].sort((a, b) => b.front - a.front || a.badness - b.badness)) {
    const width = measureText(point.name), { px, py } = point;
    const around = [[9, -6], [-9 - width, -6], [-width / 2, -21], [-width / 2, 9], [7, -17], [7, 6], [-7 - width, -17], [-7 - width, 6]]
      .map(([dx, dy]) => [px + dx, py + dy, px + dx + width, py + dy + 12]).filter(free);
    const found = around.find((box) => clear(box, line)) || around[0];
    if (!found) continue;
    boxes.push(found);
    group.append(draw("text", { x: found[0].toFixed(1), y: (found[1] + 10).toFixed(1) }, point.name));
  }
  svg.append(group);
}

const costOf = (row, column, by) => (by === "width" ? FACTS.width.of(row) : row.cells[column]?.[by]);

function drawCost() {
  const column = $("cost-column").value, by = $("cost-kind").value, at = view().columns.indexOf(column);
  const shown = visibleLines().filter((line) => line.cells[at] && costOf(data.rows[line.row], column, by) > 0);
  $("cost-key").replaceChildren();
  if (!shown.length) return $("cost").replaceChildren(make("p", { class: "soft" }, "Nothing to draw: no row that is shown has both numbers."));
  const points = shown.map((line) => {
    const cell = line.cells[at], row = data.rows[line.row];
    return { place: line.row, x: costOf(row, column, by), y: scaled(cell.value, view()), low: scaled(cell.low ?? cell.value, view()), high: scaled(cell.high ?? cell.value, view()),
      badness: cell.badness, name: names[line.row], fields: row.fields, cell, front: false };
  });
  const front = pareto(points);
  front.forEach((p) => { p.front = true; });
  const plot = frame($("cost"), { label: `${called(view().metric)} on ${column} against ${COSTS[by]}`, height: innerWidth > 600 ? 440 : 340,
    x: { values: points.map((p) => p.x), label: COSTS[by], log: true, room: 0.09 },
    y: { values: points.flatMap((p) => [p.low, p.high]), label: `${called(view().metric)}${unitOf(view()) ? ` (${unitOf(view())})` : ""}` } });
  const steps = front.flatMap((p, i) => (i ? [[plot.X(p.x), plot.Y(front[i - 1].y)], [plot.X(p.x), plot.Y(p.y)]] : [[plot.X(p.x), plot.Y(p.y)]]));
  plot.svg.append(line(steps, { class: "line front" }));
  const colours = looks(points.map((p) => p.fields[0]), N_COLOURS);
  const shapes = looks(points.map((p) => p.fields.slice(1).join(" ")), MARKERS.length);
  const bars = draw("g", { class: "bars", "aria-hidden": "true" });
  plot.svg.append(bars);
  for (const p of [...points].sort((a, b) => a.x - b.x)) {
    [p.px, p.py] = [plot.X(p.x), plot.Y(p.y)];
    bars.append(draw("line", { x1: p.px, x2: p.px, y1: plot.Y(p.low), y2: plot.Y(p.high) }));
    const text = `${p.name}: ${bounded(p.cell, view())}, ${short(p.x)} ${COSTS[by]}${p.front ? ", on the Pareto front" : ""}`;
    plot.svg.append(mark(symbol(p.px, p.py, shapes.of(p.fields.slice(1).join(" ")), 5, { fill: colour(colours.of(p.fields[0])) }), text, () => {
      openRow(p.place);
      document.querySelector(`button[data-row="${p.place}"]`)?.focus();
    }));
  }
  placeNames(plot.svg, points, steps, plot);
  walkable(plot.svg);
  $("cost-key").replaceChildren(legend(colours, shapes, data.fields));
}
