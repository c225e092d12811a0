const $ = (id) => document.getElementById(id);
const told = JSON.parse($("data").textContent), data = typeof told === "string" ? await inflated(told) : told;
const SVG = "http://www.w3.org/2000/svg";

/* The data of a large board are compressed. */
async function inflated(text) {
  if (!("DecompressionStream" in window)) $("title").textContent = "This page is too large for a browser older than 2023: open it in a newer one.";
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return JSON.parse(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text());
}

/* Names only ever become text nodes and attributes that are no code. */
function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

function button(text, onClick, attributes = {}) {
  const element = make("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", onClick);
  return element;
}

function choice(label, options, value, onChange, attributes = {}) {
  const select = make("select", attributes, ...options.map(([key, text]) => make("option", { value: key }, text)));
  select.value = value;
  select.addEventListener("change", () => onChange(select.value));
  return make("label", {}, `${label} `, select);
}

/* A number of a metric as the board spells it, with its unit where `unit` is asked for. */
function spelled(value, measure) {
  if (value === null || value === undefined) return "–";
  if (measure.percent) return (100 * value).toFixed(1);
  if (measure.significant) return String(Number(value.toPrecision(4)));
  const text = value.toFixed(3);
  return Number(text) === 0 ? text.replace("-", "") : text;
}
const scaled = (value, measure) => (measure.percent ? 100 * value : value);
const unitOf = (measure) => (measure.percent ? "%" : measure.unit || "");
const three = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 }), compact = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, notation: "compact" });
const short = (value) => (Number.isFinite(value) ? (Math.abs(value) < 1e5 ? three : compact).format(value) : "–");
const called = (metric) => data.labels[metric] ?? metric;
const bounded = (cell, measure) => spelled(cell.value, measure) + (cell.low === null ? "" : ` [${spelled(cell.low, measure)}, ${spelled(cell.high, measure)}]`);
const rowName = (row) => row.fields.join(" ");

/* Of runs that were not read the page knows what the table does. */
const UNREAD = { command: "", seconds: {}, chosen: null, on: "", commit: "", created: "", device: "", n: [], width: null, protocol: "", fold: null, detail: null, searched: null, fault: "" };
const runs = [];

/* One run; where some were not read, what is known of all stands field by field. */
function runAt(i) {
  return (runs[i] ??= { ...UNREAD, ...(Array.isArray(data.runs) ? data.runs[i] : data.runs.read[i] ?? knownOf(i, data.runs)) });
}

function knownOf(i, { columns, name, column, seed, fold, metrics }) {
  const known = Object.entries(metrics).filter(([, values]) => values[i] !== null).map(([metric, values]) => [metric, [values[i]]]);
  return { name: name[i], column: columns[column[i]], seed: seed[i], fold: fold[i], metrics: Object.fromEntries(known) };
}

/* Rows by name, and the views (one for each metric) with their lines by row. */
const names = data.rows.map(rowName);
const placeOf = new Map(names.map((name, place) => [name, place]));
const views = new Map(data.views.map((view) => [view.metric, view]));
for (const view of data.views) view.lineOf = new Map(view.lines.map((line, order) => [line.row, { ...line, order }]));

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[sorted.length >> 1] : NaN;
}
const runsOf = (row) => Object.values(row.cells).flatMap((cell) => cell.runs.map(runAt));
const drawOf = (run) => `${run.seed}${run.fold === null ? "" : `, fold ${run.fold}`}`;
const latest = (row) => runsOf(row).reduce((a, b) => (a.created > b.created ? a : b), { created: "", commit: "" });
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

/* Facts of a row that stand in columns of their own. */
const FACTS = {
  parameters: { label: "parameters", of: (row) => median(Object.values(row.cells).map((cell) => cell.parameters)), show: short },
  width: { label: "width", of: (row) => median(runsOf(row).map((run) => run.width).filter((width) => width !== null)), show: short },
  seconds: { label: "seconds to fit", of: (row) => mean(Object.values(row.cells).map((cell) => cell.fit)), show: short },
  rows: { label: "training rows", of: (row) => median(Object.values(row.cells).map((cell) => cell.n_rows)), show: short },
  date: { label: "date", of: (row) => latest(row).created.slice(0, 10), show: (text) => text || "–" },
  commit: { label: "commit", of: (row) => latest(row).commit, show: (text) => (text ? text.slice(0, 7) + (text.endsWith("-dirty") ? "-dirty" : "") : "–") },
};
