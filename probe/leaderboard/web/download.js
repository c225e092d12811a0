/* What is shown as a file: the rows that the filter leaves, in their order, and the columns that are not hidden. */
const oneLine = (text) => String(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ");

/* Names that a spreadsheet would compute get an apostrophe before them. */
function csvCell(value) {
  if (typeof value === "number") return String(value);
  let text = oneLine(value ?? "");
  if (!/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text)) text = text.replace(/(^|;)(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20])/g, "$1'");
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const LATEX = { "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "&": "\\&", "%": "\\%", $: "\\$", "#": "\\#", _: "\\_", "~": "\\textasciitilde{}",
  "^": "\\textasciicircum{}", "†": "\\dag{}", "‡": "\\ddag{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", "[": "{[}", "]": "{]}" };
const latex = (text) => oneLine(text).replace(/[\\{}&%$#_~^†‡<>|[\]]/g, (character) => LATEX[character]);

function longCells() {
  const columns = shownColumns().filter(({ kind }) => kind === "score");
  return visibleLines().flatMap((line) => columns.filter(({ at }) => line.cells[at]).map(({ name, at }) => {
    const cell = line.cells[at], [rank, low, high] = line.rank || [null, null, null];
    const fields = Object.fromEntries(data.fields.map((field, i) => [field, data.rows[line.row].fields[i]]));
    return { ...fields, column: name, metric: state.metric, value: cell.value, low: cell.low, high: cell.high, n_seeds: cell.n_seeds, mark: cell.mark || "",
      selected_on: cell.selected_on || "", not_above: cell.not_above || "", rank, rank_low: low, rank_high: high };
  }));
}

function asCsv() {
  const cells = longCells(), keys = Object.keys(cells[0] || {});
  return [keys, ...cells.map((cell) => keys.map((key) => cell[key]))].map((line) => `${line.map(csvCell).join(",")}\n`).join("");
}

const asJson = () => JSON.stringify({ metric: state.metric, cells: longCells(), notes: view().notes }, null, 1);

function asTex() {
  const columns = shownColumns(), lines = visibleLines().map((line) => {
    const row = data.rows[line.row], texts = columns.map((column) => {
      if (column.kind === "average") return spelled(averageOf(line), view());
      if (column.kind === "fact") return latex(column.fact.show(column.fact.of(row)));
      const cell = line.cells[column.at];
      if (!cell) return "missing";
      const text = latex(bounded(cell, view()) + marks(cell));
      return cell.mark === "best" ? `\\textbf{${text}}` : text;
    });
    return [...row.fields.map(latex), latex(rankText(line)), ...texts];
  });
  const head = [...data.fields, "rank", ...columns.map(({ label }) => label)].map(latex), body = (cells) => `${cells.join(" & ")} \\\\\n`;
  const notes = [`${view().title}; needs \\usepackage{booktabs}`, ...view().notes].map((note) => `% ${oneLine(note)}\n`).join("");
  return `${notes}\\begin{tabular}{${"l".repeat(data.fields.length + 1)}${"r".repeat(columns.length)}}\n\\toprule\n${body(head)}\\midrule\n${lines.map(body).join("")}\\bottomrule\n\\end{tabular}\n`;
}

const FILES = { csv: [asCsv, "text/csv"], json: [asJson, "application/json"], tex: [asTex, "text/x-tex"] };

function download(kind) {
  const [text, type] = FILES[kind], link = make("a", { href: URL.createObjectURL(new Blob([text()], { type })), download: `leaderboard.${kind}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
