/* Which classes are taken for which: a matrix of few classes, and the commonest confusions of any number. */
const FEW = 30;
const unitOfRows = (detail) => (detail.kind === "mask" ? "pixel" : "row");

function heatmap(box, { label, rows, columns, x, y, entries }) {
  const cut = (text) => (text.length > 14 ? `${text.slice(0, 13)}…` : text);
  const left = 20 + Math.min(100, Math.max(...rows.map((text) => measureText(cut(text)))) + 8);
  const bottom = 26 + Math.min(100, Math.max(...columns.map((text) => measureText(cut(text)))) + 4);
  const width = Math.max(240, box.clientWidth || 480), size = Math.max(6, Math.min(34, (width - left - 6) / columns.length));
  const height = rows.length * size + bottom + 6;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": label });
  const axes = draw("g", { class: "axes", "aria-hidden": "true" });
  if (size >= 9) {
    rows.forEach((text, i) => axes.append(draw("text", { x: left - 6, y: 6 + (i + 0.5) * size + 4, "text-anchor": "end" }, cut(text))));
    columns.forEach((text, j) => axes.append(draw("text", { transform: `translate(${left + (j + 0.5) * size + 4} ${6 + rows.length * size + 6}) rotate(-90)`, "text-anchor": "end" }, cut(text))));
  }
  axes.append(draw("text", { x: left + (columns.length * size) / 2, y: height - 4, "text-anchor": "middle" }, x),
    draw("text", { transform: `translate(11 ${6 + (rows.length * size) / 2}) rotate(-90)`, "text-anchor": "middle" }, y));
  svg.append(draw("rect", { x: left, y: 6, width: columns.length * size, height: rows.length * size, class: "ground" }), axes);
  for (const { i, j, share, text } of entries) {
    svg.append(mark(draw("rect", { x: left + j * size, y: 6 + i * size, width: size - 0.5, height: size - 0.5, class: "cell", "fill-opacity": Math.max(0.02, share).toFixed(3) }), text));
  }
  walkable(svg);
  box.replaceChildren(svg);
}

function drawConfusion(box, detail, classes) {
  heatmap(box, { label: "Confusion matrix, shares of the true class", rows: classes, columns: classes, x: "predicted", y: "true",
    entries: detail.confusion.map(([label, predicted, count]) => ({ i: label, j: predicted, share: count / detail.n[label],
      text: `true ${classes[label]}, predicted ${classes[predicted]}: ${plural(count, unitOfRows(detail))}, ${percent(count / detail.n[label])} of the class` })) });
}

function confusionTable(detail, classes) {
  const wrong = detail.confusion.filter(([label, predicted]) => label !== predicted).sort((a, b) => b[2] - a[2]).slice(0, 12);
  if (!wrong.length) return make("p", { class: "soft" }, `No ${unitOfRows(detail)} is taken for another class.`);
  return tableOf("", ["true", "predicted", `${unitOfRows(detail)}s`, "of the class"], wrong.map(([label, predicted, count]) =>
    [classes[label], classes[predicted], count.toLocaleString("en"), percent(count / detail.n[label])]));
}
