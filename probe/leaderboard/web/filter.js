/* The filter: words that a row holds, `field=value` with * for anything, | for either, - for rows without it. A value
   stands for the same with settings too, as knn for knn(ks=[1]). */
function tokens(text) {
  return [...text.matchAll(/(-?)((?:"[^"]*"|[^\s"])+)/g)].map(([, minus, word]) => ({ negated: minus === "-", word: word.replaceAll('"', "") }))
    .filter(({ word }) => word && word !== "-");
}

function pattern(text) {
  const escaped = text.toLowerCase().split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&")).join(".*");
  return new RegExp(`^${escaped}$`, "s");
}

function matcher(text) {
  const unknown = [];
  const tests = tokens(text).map(({ negated, word }) => {
    const [, field, values] = /^([^=]+)=(.*)$/s.exec(word) || [];
    const place = field === undefined ? -1 : data.fields.indexOf(field);
    if (field !== undefined && place < 0) unknown.push(field);
    let test;
    if (place >= 0) {
      const wanted = values.split("|").map(pattern);
      test = (row) => wanted.some((one) => [row.fields[place], row.fields[place].split("(")[0]].some((value) => one.test(value.toLowerCase())));
    } else {
      const wanted = word.toLowerCase().split("|").filter(Boolean);
      test = (row) => !wanted.length || wanted.some((one) => rowName(row).toLowerCase().includes(one));
    }
    return negated ? (row) => !test(row) : test;
  });
  return { unknown, test: (row) => tests.every((test) => test(row)) };
}

function nothingLeft() {
  const { unknown } = matcher(state.filter);
  const hint = unknown.length ? ` A row has the fields ${data.fields.join(", ")}, not ${unknown.join(", ")}.` : "";
  return `No row of ${view().lines.length} meets “${state.filter}”.${hint}`;
}

/* What can be typed, for the list under the field. */
function suggestions() {
  return data.fields.flatMap((field, at) => {
    const values = [...new Set(data.rows.map((row) => row.fields[at]))].sort();
    return values.slice(0, 40).map((value) => `${field}=${/\s/.test(value) ? `"${value}"` : value}`);
  });
}
