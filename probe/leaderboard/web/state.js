/* What is shown, and the same in the address: a link to a view, to an open row, to two rows side by side. */
const DEFAULTS = { metric: data.views[0].metric, sort: "rank", filter: "", open: "", run: "", compare: "", cost: "", by: "fit", curves: "" };
const state = { ...DEFAULTS, hidden: new Set(), added: new Set() };
const view = () => views.get(state.metric);
const descending = () => state.sort.startsWith("-");
const sortedBy = () => state.sort.replace(/^-/, "");

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(DEFAULTS)) state[key] = given.get(key) ?? DEFAULTS[key];
  state.hidden = new Set(given.getAll("hide"));
  state.added = new Set(given.getAll("add").filter((name) => name in FACTS || name === "average"));
  if (!views.has(state.metric)) state.metric = DEFAULTS.metric;
  if (!placeOf.has(state.open)) state.open = "";
  if (!placeOf.has(state.compare) || state.compare === state.open) state.compare = "";
}

function writeAddress() {
  const told = new URLSearchParams();
  for (const [key, value] of Object.entries(DEFAULTS)) if (state[key] !== value) told.set(key, state[key]);
  for (const name of state.hidden) told.append("hide", name);
  for (const name of state.added) told.append("add", name);
  const text = String(told).replace(/%3A/g, ":");
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

/* The columns of the table, in order: those of the scores that are not hidden, the average, facts of the rows. */
function shownColumns() {
  const columns = view().columns.map((name, at) => ({ kind: "score", key: `c:${name}`, label: name, name, at }));
  const found = columns.filter(({ name }) => !state.hidden.has(name));
  if (state.added.has("average")) found.push({ kind: "average", key: "average", label: "average" });
  for (const [name, fact] of Object.entries(FACTS)) {
    if (state.added.has(name)) found.push({ kind: "fact", key: `i:${name}`, label: fact.label, fact });
  }
  return found;
}

/* Mean of the scores that are shown; none where one is missing, or where units differ from column to column. */
function averageOf(line) {
  if (view().significant) return null;
  const cells = view().columns.map((name, at) => (state.hidden.has(name) ? undefined : line.cells[at])).filter((cell) => cell !== undefined);
  return cells.length && cells.every(Boolean) ? mean(cells.map((cell) => cell.value)) : null;
}

function sortKey(line, by) {
  if (by === "rank") return line.rank ? line.rank[0] : null;
  if (by === "average") return averageOf(line);
  if (by.startsWith("f:")) return data.rows[line.row].fields[data.fields.indexOf(by.slice(2))] ?? null;
  if (by.startsWith("i:")) return FACTS[by.slice(2)]?.of(data.rows[line.row]) ?? null;
  const cell = line.cells[view().columns.indexOf(by.slice(2))];
  return cell ? (view().better === "target" ? cell.badness : cell.value) : null;
}

function visibleLines() {
  const match = matcher(state.filter);
  const found = view().lines.filter((line) => match.test(data.rows[line.row]));
  if (state.sort === "rank") return found;
  const sign = descending() ? -1 : 1, by = sortedBy();
  const keyed = found.map((line, at) => ({ line, at, key: sortKey(line, by) }));
  const missing = (key) => key === null || key === "" || Number.isNaN(key);
  keyed.sort((a, b) => {
    if (missing(a.key) || missing(b.key)) return missing(a.key) - missing(b.key) || a.at - b.at;
    const order = typeof a.key === "string" ? a.key.localeCompare(b.key, "en", { numeric: true }) : a.key - b.key;
    return sign * order || a.at - b.at;
  });
  return keyed.map(({ line }) => line);
}
