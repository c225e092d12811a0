/* What ties it together: a change of what is shown, its address, and the drawings that follow. */
let later = 0;

function change(patch) {
  const before = { ...state };
  Object.assign(state, patch);
  if (state.filter !== before.filter || state.sort !== before.sort || state.metric !== before.metric) shownRows = PAGE;
  writeAddress();
  drawTable();
  drawDetail();
  const plots = ["filter", "metric", "cost", "by", "curves"].some((key) => state[key] !== before[key]);
  if (state.metric !== before.metric) drawControls();
  // A key is answered by the table at once; the plots follow when the fingers rest.
  if (plots) {
    clearTimeout(later);
    later = setTimeout(drawPlots, 150);
  }
}

function drawPlots() {
  hideHint();
  if (view().columns.length) drawCost();
  const datasets = datasetsWithCurves();
  showSection("curves", datasets.map((name) => [name, name]), drawCurves, state.curves);
  showSection("layers", data.layers.map((depth, i) => [String(i), depth.name]), drawLayers, $("layers-of").value);
}

function checkbox(text, checked, onChange) {
  const box = make("input", { type: "checkbox" });
  box.checked = checked;
  box.addEventListener("change", () => onChange(box.checked));
  return make("label", {}, box, ` ${text}`);
}

/* A set in the state, with or without one of its names. */
function toggled(set, name, present) {
  const found = new Set(set);
  if (present) found.add(name);
  else found.delete(name);
  return found;
}

function drawControls() {
  $("title").textContent = view().title;
  $("metric").replaceChildren(...data.views.map(({ metric }) => make("option", { value: metric }, called(metric))));
  $("metric").value = state.metric;
  $("metric").disabled = data.views.length < 2;
  const columns = view().columns, chooser = $("columns").querySelector("div");
  chooser.replaceChildren(...columns.map((name) => checkbox(name, !state.hidden.has(name), (on) => change({ hidden: toggled(state.hidden, name, !on) }))),
    make("hr"), ...["average", ...Object.keys(FACTS)].map((name) => checkbox(name === "average" ? "average of the scores" : FACTS[name].label, state.added.has(name),
      (on) => change({ added: toggled(state.added, name, on) }))));
  const filled = (at) => view().lines.filter((line) => line.cells[at]).length;
  $("cost-column").replaceChildren(...columns.map((name) => make("option", { value: name }, name)));
  $("cost-column").value = columns.includes(state.cost) ? state.cost : [...columns].sort((a, b) => filled(columns.indexOf(b)) - filled(columns.indexOf(a)))[0];
  $("notes").replaceChildren(...[...view().notes, ...data.notes].map((note) => make("li", {}, note)));
  if (document.activeElement !== $("filter")) $("filter").value = state.filter;
}

function onKey(event) {
  const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
  if (event.key === "Escape" && hint.style.display === "block") return hideHint();
  if (event.key === "Escape" && !typing) {
    const menu = document.querySelector("details.menu[open]");
    if (menu) {
      menu.open = false;
      return menu.querySelector("summary").focus();
    }
    if (state.open) closeRow();
  }
  if (event.key === "/" && !typing) {
    event.preventDefault();
    $("filter").focus();
  }
}

function listen() {
  $("board").addEventListener("click", (event) => { if (!event.target.closest(".detail, thead, .nothing")) onTableClick(event); });
  $("board").addEventListener("keydown", onTableKey);
  $("filter").addEventListener("input", () => change({ filter: $("filter").value.trim() }));
  $("metric").addEventListener("change", () => change({ metric: $("metric").value, hidden: new Set() }));
  $("cost-column").addEventListener("change", () => change({ cost: $("cost-column").value }));
  $("cost-kind").addEventListener("change", () => change({ by: $("cost-kind").value }));
  $("curves-data").addEventListener("change", () => change({ curves: $("curves-data").value }));
  $("layers-of").addEventListener("change", drawLayers);
  $("more-rows").addEventListener("click", () => showMore(shownRows + PAGE));
  $("all-rows").addEventListener("click", () => showMore(Infinity));
  for (const kind of Object.keys(FILES)) $("download").querySelector("div").append(button(kind, () => download(kind), { id: `as-${kind}` }));
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  addEventListener("hashchange", () => { readAddress(); showAll(); });
  addEventListener("scroll", hideHint, { passive: true });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(later);
    later = setTimeout(() => { drawPlots(); drawDetail(true); }, 150);
  });
}

function showAll() {
  drawControls();
  $("filter").value = state.filter;
  $("cost-kind").value = state.by in COSTS ? state.by : "fit";
  drawTable();
  drawDetail();
  drawPlots();
}

function start() {
  document.body.append(hint);
  $("cost-kind").append(...Object.entries(COSTS).map(([key, text]) => make("option", { value: key }, text)));
  $("suggestions").append(...suggestions().map((value) => make("option", { value })));
  if (data.problems.length) {
    $("problems").hidden = false;
    $("problems").querySelector("summary").textContent = `Not counted: ${data.problems.length}`;
    $("problems").querySelector("ul").append(...data.problems.map(([folder, reason]) => make("li", {}, `${folder}: ${reason}`)));
  }
  readAddress();
  listen();
  showAll();
  if (state.open) document.querySelector("tr.open")?.scrollIntoView({ block: "start" });
}
start();
