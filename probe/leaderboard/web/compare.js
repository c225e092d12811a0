/* Two rows side by side: paired differences, and the test rows on which they disagree, from a packed bit per row. */
function pairOf(at, a, b) {
  const { rows, half, p, value } = view().pairs[at], [i, j] = [rows.indexOf(a), rows.indexOf(b)];
  if (i < 0 || j < 0) return null;
  const [first, second] = i < j ? [i, j] : [j, i], place = first * rows.length - (first * (first + 1)) / 2 + second - first - 1;
  if (half[place] === null) return null;
  const [ca, cb] = [a, b].map((row) => view().lineOf.get(row).cells[at]), target = view().better === "target";
  const told = value[place], lead = told ? told[0] * (i < j ? 1 : -1) : target ? ca.badness - cb.badness : ca.value - cb.value;
  return { lead, half: half[place], p: p[place], seeds: told ? told[1] : ca.n_seeds };
}

function bitsOf(name) {
  const found = data.bits[name];
  if (!found) return null;
  return { test: found[0], bytes: Uint8Array.from(atob(found[1]), (c) => c.charCodeAt(0)) };
}

/* Numbers of the rows on which one is right and the other wrong: [A right, B right], and how many both got. */
function disagreements(a, b) {
  const [x, y] = [bitsOf(a), bitsOf(b)];
  if (!x || !y || x.test !== y.test) return null;
  const rows = data.tests[x.test], n = typeof rows === "number" ? rows : rows.length, found = { a: [], b: [], both: 0, neither: 0, n };
  for (let i = 0; i < n; i++) {
    const shift = 7 - (i & 7), [p, q] = [(x.bytes[i >> 3] >> shift) & 1, (y.bytes[i >> 3] >> shift) & 1];
    if (p && q) found.both++;
    else if (!p && !q) found.neither++;
    else (p ? found.a : found.b).push(typeof rows === "number" ? i : rows[i]);
  }
  return found;
}

function rowList(title, rows, run) {
  const samples = rows.map((row) => [row, sampleOf(run, run.detail?.partition ?? "test", row)]).filter(([, shown]) => shown).slice(0, 8);
  const list = samples.length ? make("ul", { class: "wrongs" }, ...samples.map(([row, shown]) => make("li", { class: "wrong" }, shown, make("small", { class: "soft" }, `row ${row}`)))) : "";
  const shown = rows.slice(0, 40).join(", ");
  return make("div", {}, make("h5", {}, `${title}: ${plural(rows.length, "row")}`), list, rows.length ? make("p", { class: "soft numbers" }, shown + (rows.length > 40 ? `, and ${rows.length - 40} more` : "")) : "");
}

function differenceTable(a, b) {
  const lines = view().columns.map((name, at) => {
    const cells = [a, b].map((row) => view().lineOf.get(row)?.cells[at]);
    if (!cells.every(Boolean)) return null;
    const pair = pairOf(at, a, b), told = pair ? `${spelled(pair.lead, view())} [${spelled(pair.lead - pair.half, view())}, ${spelled(pair.lead + pair.half, view())}]` : "not kept";
    return [name, ...cells.map((cell) => bounded(cell, view())), told,
      pair ? (pair.p < 1e-4 ? "<.0001" : String(Number(pair.p.toPrecision(2)))) : "–", pair ? String(pair.seeds) : "–"];
  }).filter(Boolean);
  const unit = unitOf(view()), target = view().better === "target" ? ", of the distances from the best value" : "";
  return tableOf(`${called(view().metric)}${unit ? `, ${unit}` : ""}: A = ${names[a]}, B = ${names[b]}`, ["", "A", "B", `A - B, paired${target}`, "p", "seeds"], lines);
}

function comparison(a, b, column) {
  const box = make("div", { class: "compared" }, differenceTable(a, b),
    make("p", { class: "soft" }, "Differences are paired by test row and seed, with 95 % intervals; p is two-sided, of one column at a time. ",
      make("code", {}, `probe leaderboard … --compare '${names[a]}' '${names[b]}'`), " adds Holm's correction and two more tests."));
  const runs = [a, b].map((row) => data.rows[row].cells[column]?.runs[0]).map((i) => (i === undefined ? i : runAt(i)));
  const found = runs.every(Boolean) ? disagreements(runs[0].name, runs[1].name) : null;
  if (!found) return fill(box, {}, [make("p", { class: "soft" }, "Row by row the page compares the 60 best rows, on datasets of classes where both tested the same rows.")]);
  const seeds = new Set(runs.map((run) => run.seed));
  return fill(box, {}, [make("h4", {}, `Where they disagree on ${column}, seed ${[...seeds].join(" and ")}`),
    make("p", {}, `Of ${found.n.toLocaleString("en")} test rows both are right on ${found.both.toLocaleString("en")}, both wrong on ${found.neither.toLocaleString("en")}.`),
    make("div", { class: "grid" }, rowList("Only A is right", found.a, runs[0]), rowList("Only B is right", found.b, runs[0]))]);
}
