/* Small plots in SVG: axes, a hint for hover and keyboard, and marks that the arrow keys walk through. */
const MARKERS = [
  (r) => `M${-r},0A${r},${r} 0 1,0 ${r},0A${r},${r} 0 1,0 ${-r},0Z`,
  (r) => `M${-r * 0.9},${-r * 0.9}H${r * 0.9}V${r * 0.9}H${-r * 0.9}Z`,
  (r) => `M0,${-r * 1.25}L${r * 1.25},0L0,${r * 1.25}L${-r * 1.25},0Z`,
  (r) => `M0,${-r * 1.2}L${r * 1.15},${r * 0.9}H${-r * 1.15}Z`,
  (r) => `M0,${r * 1.2}L${r * 1.15},${-r * 0.9}H${-r * 1.15}Z`,
  (r) => `M${-r * 0.4},${-r * 1.2}H${r * 0.4}V${-r * 0.4}H${r * 1.2}V${r * 0.4}H${r * 0.4}V${r * 1.2}H${-r * 0.4}V${r * 0.4}H${-r * 1.2}V${-r * 0.4}H${-r * 0.4}Z`,
  (r) => `M${-r},${-r}L0,${-r * 0.35}L${r},${-r}L${r * 0.35},0L${r},${r}L0,${r * 0.35}L${-r},${r}L${-r * 0.35},0Z`,
  (r) => `M0,${-r * 1.3}L${r * 1.2},${-r * 0.4}L${r * 0.75},${r}H${-r * 0.75}L${-r * 1.2},${-r * 0.4}Z`,
];
const N_COLOURS = 10;
const colour = (i) => `var(--c${i % N_COLOURS})`;

function niceTicks(low, high, count) {
  const rough = (high - low) / Math.max(1, count), power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) ticks.push(i * step);
  return ticks.map((value) => [value, String(Number(value.toPrecision(6)))]);
}

function logTicks(low, high, count) {
  const ticks = [], wide = Math.log10(high / low) > 2;
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
    for (const m of wide ? [1] : [1, 2, 5]) if (m * 10 ** e >= low * 0.999 && m * 10 ** e <= high * 1.001) ticks.push(m * 10 ** e);
  }
  const every = Math.ceil(ticks.length / Math.max(1, count));
  return ticks.filter((_, i) => i % every === 0).map((value) => [value, value < 1e-3 ? value.toExponential(0) : compact.format(value)]);
}

/* A scale from numbers to pixels, with room at both ends. */
function scaleOf(values, from, to, { log = false, domain = null, room = 0.05, count = 6 } = {}) {
  const known = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
  let [low, high] = domain || [Math.min(...known), Math.max(...known)];
  const forward = log ? Math.log10 : (x) => x, back = log ? (x) => 10 ** x : (x) => x;
  let [a, b] = [forward(low), forward(high)];
  if (!(b > a)) [a, b] = [a - (log ? 0.5 : Math.abs(a) * 0.05 || 0.5), b + (log ? 0.5 : Math.abs(b) * 0.05 || 0.5)];
  if (!domain) [a, b] = [a - room * (b - a), b + room * (b - a)];
  const scale = (x) => from + ((forward(x) - a) / (b - a)) * (to - from);
  scale.ticks = (log ? logTicks : niceTicks)(back(a), back(b), count);
  return scale;
}

const hint = make("div", { id: "hint", "aria-hidden": "true" }); // who listens is told by the marks themselves
function showHint(text, mark) {
  hint.textContent = text;
  const box = mark.getBoundingClientRect();
  hint.style.display = "block";
  hint.style.left = `${Math.max(4, Math.min(innerWidth - hint.offsetWidth - 4, box.x + box.width / 2 + 10))}px`;
  hint.style.top = `${Math.max(4, box.y - hint.offsetHeight - 6)}px`;
}
const hideHint = () => { hint.style.display = "none"; };

const LETTER = 8; // pixels of a wide one on an axis

/* An empty plot with axes. `x` and `y` hold values, label and options of the scale; ticks may be given. */
function frame(box, { label, height = 300, x, y, left = 52, bottom = 44, top = 10, right = 14 }) {
  const width = Math.max(240, box.clientWidth || 480);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": label });
  const across = () => scaleOf(x.values, left, width - right, { count: width / 90, ...x });
  let X = across();
  const ends = (x.ticks || X.ticks).map(([value, text]) => X(value) + (LETTER * text.length) / 2); // half of a text stands behind its tick
  right += Math.max(0, Math.max(...ends) - width);
  X = across();
  const Y = scaleOf(y.values, height - bottom, top, y);
  const axes = draw("g", { class: "axes", "aria-hidden": "true" });
  for (const [value, text] of x.ticks || X.ticks) {
    axes.append(draw("line", { x1: X(value), x2: X(value), y1: top, y2: height - bottom }),
      draw("text", { x: X(value), y: height - bottom + 15, "text-anchor": "middle" }, text));
  }
  for (const [value, text] of y.ticks || Y.ticks) {
    axes.append(draw("line", { x1: left, x2: width - right, y1: Y(value), y2: Y(value) }),
      draw("text", { x: left - 6, y: Y(value) + 4, "text-anchor": "end" }, text));
  }
  axes.append(draw("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, x.label),
    draw("text", { transform: `translate(12 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, y.label));
  svg.append(axes);
  box.replaceChildren(svg);
  return { svg, X, Y, width, height, left, right, top, bottom };
}

/* A mark says what it is on hover and focus; of all marks of a plot one is reached by Tab, the others by arrow keys. */
function mark(element, text, onEnter = null) {
  fill(element, { class: `mark ${element.getAttribute("class") || ""}`, role: onEnter ? "button" : "img", "aria-label": text, tabindex: "-1" }, []);
  for (const [event, act] of [["pointerenter", () => showHint(text, element)], ["pointerleave", hideHint], ["focus", () => showHint(text, element)], ["blur", hideHint]]) {
    element.addEventListener(event, act);
  }
  if (onEnter) element.addEventListener("click", onEnter);
  element.enter = onEnter;
  return element;
}

function walkable(svg) {
  const found = [...svg.querySelectorAll(".mark")];
  if (found.length) found[0].setAttribute("tabindex", "0");
  svg.addEventListener("keydown", (event) => {
    const at = found.indexOf(event.target);
    if (at < 0) return;
    if ((event.key === "Enter" || event.key === " ") && event.target.enter) {
      event.preventDefault();
      return event.target.enter();
    }
    const next = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: found.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    if (!found[next]) return;
    event.target.setAttribute("tabindex", "-1");
    found[next].setAttribute("tabindex", "0");
    found[next].focus();
  });
}

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");
const line = (points, attributes = {}) => draw("path", { d: path(points), fill: "none", class: "line", ...attributes });
const symbol = (x, y, shape, size, attributes = {}) => draw("path", { d: MARKERS[shape % MARKERS.length](size), transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, ...attributes });
