/* Single rows: those that a run got most confidently wrong, what they look like, and what the predictions rest on. */
function sampleOf(run, partition, row) {
  const [kind, content] = data.samples[run.data]?.[partition]?.[row] || [];
  if (kind === "image") return make("img", { src: content, alt: "", class: "thumb", decoding: "async" });
  if (kind === "text") return make("q", { class: "text" }, content);
  return null;
}

const classOf = (run, code) => (data.classes[run.classes] || [])[code] ?? `class ${code}`;

/* A map of attention over patches as small squares, of other tokens as a strip; from its smallest share to its largest. */
function attentionMap(shares, [height, width]) {
  const size = Math.max(2, Math.floor(72 / Math.max(height, width)));
  const svg = draw("svg", { width: width * size, height: height * size, viewBox: `0 0 ${width * size} ${height * size}`, role: "img", class: "attention",
    "aria-label": `Attention: largest at ${shares.indexOf(Math.max(...shares)) + 1} of ${plural(shares.length, "token")}` });
  const [low, high] = [Math.min(...shares), Math.max(...shares)];
  svg.append(draw("rect", { width: width * size, height: height * size, class: "ground" }));
  shares.forEach((share, i) => svg.append(draw("rect", { x: (i % width) * size, y: Math.floor(i / width) * size, width: size, height: size, class: "cell", "fill-opacity": ((share - low) / (high - low || 1)).toFixed(2) })));
  return make("div", {}, svg, make("small", { class: "soft" }, ` ${percent(low / 1e4)} to ${percent(high / 1e4)}`));
}

function neighbourList(run, found) {
  const list = make("ol", { class: "neighbours" });
  for (const [partition, row, weight, label] of found) {
    const shown = sampleOf(run, partition, row);
    list.append(make("li", {}, ...(shown ? [shown, " "] : []), make("span", {}, `${label === null ? "" : `${run.detail.kind === "number" ? short(label) : classOf(run, label)}, `}${percent(weight, 0)}`),
      make("small", { class: "soft" }, ` ${partition} ${row}`)));
  }
  return list;
}

/* The words of a text by the class that they speak for; the darker, the more a word adds. */
function wordVotes(run, [byClass, n], ahead) {
  const most = Math.max(...byClass.flatMap(([, words]) => words.map(([, vote]) => vote)), 0), list = make("dl", { class: "votes" });
  for (const [code, words] of byClass) {
    const shown = words.map(([word, vote]) => make("span", { class: "vote", style: `--share:${(vote / most).toFixed(2)}`, title: `${word}: ${short(vote)}` }, word));
    list.append(make("dt", {}, classOf(run, code)), make("dd", {}, ...(shown.length ? shown.flatMap((one) => [one, " "]) : ["no word"])));
  }
  const told = ahead === undefined ? plural(n, "word") : ahead === null ? `never ahead in ${plural(n, "word")}` : `first ahead after ${ahead} of ${plural(n, "word")}`;
  return make("div", {}, list, make("small", { class: "soft" }, told));
}

function wrongRows(run) {
  const { detail } = run, { wrong, evidence, partition = "test" } = detail;
  if (!wrong?.length) return null;
  const isNumber = detail.kind === "number", items = wrong.map((one, at) => {
    const [row, label, predicted, probability] = one, shown = sampleOf(run, partition, row);
    const words = isNumber ? `true ${short(label)}, predicted ${short(predicted)}` : `true ${classOf(run, label)}, predicted ${classOf(run, predicted)}${probability === undefined ? "" : ` (${percent(probability)})`}`;
    const item = make("li", { class: "wrong" }, ...(shown ? [shown] : []), make("span", {}, words), make("small", { class: "soft" }, `row ${row}`));
    if (evidence?.attention) item.append(attentionMap(evidence.attention[at], evidence.grid));
    if (evidence?.neighbours) item.append(make("details", {}, make("summary", {}, "neighbours"), neighbourList(run, evidence.neighbours[at])));
    if (evidence?.words) item.append(make("details", {}, make("summary", {}, "words"), wordVotes(run, evidence.words[at], evidence.ahead?.[at])));
    return item;
  });
  const found = [make("h4", {}, isNumber ? "Rows with the largest errors" : "Rows that it got most confidently wrong"), make("ul", { class: "wrongs" }, ...items)];
  if (evidence?.neighbours) found.push(make("p", { class: "soft" }, `The vote of each row rests on ${plural(evidence.k, "training row")}; the nearest are listed with their shares of the vote.`));
  if (evidence?.attention) found.push(make("p", { class: "soft" }, `Maps show where the head looks: ${evidence.n_maps > 1 ? `the mean of its ${evidence.n_maps} maps` : "its map"} over the tokens, of an image the patches that the backbone sees; beside them the smallest and the largest share.`));
  if (evidence?.words) found.push(make("p", { class: "soft" }, `Words are listed under the class that they speak for, of each class those that add most to its score; the darker, the more.${evidence.ahead ? " A row could have been decided where the predicted class is first ahead of all others." : ""}`));
  if (evidence?.fault) found.push(make("p", { class: "soft" }, `What the predictions rest on is not shown: ${evidence.fault}.`));
  return found;
}
