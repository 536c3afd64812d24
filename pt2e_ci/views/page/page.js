"use strict";
// Filters, the keyboard, and the details of a field. Every text is put in as text: a report is not trusted.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("matrix");
  const filters = document.getElementById("filters");
  const dialog = document.getElementById("detail");
  const rows = [...table.tBodies[0].rows];
  const heads = [...table.tHead.rows[1].cells];
  const groups = [...table.tHead.rows[0].cells].slice(1);

  const element = (name, text, attributes = {}) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };

  // What free text is looked for in: the case's name, with spaces too, what is written in its row, and the reasons.
  const textOf = (row, index) => [
    row.dataset.name, row.dataset.name.replaceAll("_", " "), row.dataset.family, row.cells[0].textContent,
    ...data.fields[index].map((detail) => (detail && data.values[data.values[detail.shown].reason]) || ""),
  ].join(" ").toLowerCase();
  let texts = rows.map(textOf);

  // The address keeps the filters, so that a view can be sent on; and the field that is open, with the run it is of.
  let [opened, operator, run, current] = ["", "", data.run, null];
  const linkTo = (more) => `#${new URLSearchParams({ ...chosen(), open: opened, ...more, run: data.run })}`;
  const chosen = () => Object.fromEntries([...new FormData(filters)].filter(([, value]) => value !== ""));
  const address = (want = chosen()) => `#${new URLSearchParams({ ...want, ...(opened && { open: opened, ...(operator && { operator }), run }) })}`;

  // What is typed may hold `outcome:float`, `evidence:proved`, `differs:arch` and `seq(2.12:pass 2.13:float)`; the rest
  // is looked for as text. Outcome and evidence are asked of one field, a sequence of one flow on one machine.
  const values = { outcome: [...Object.keys(data.outcomes), "unexpected"], evidence: Object.keys(data.marks), differs: ["arch"] };
  const query = (typed) => {
    const [tests, ofField] = [[], []];
    const is = (button, outcome) => (outcome === "unexpected" ? "unexpected" in button.dataset : button.dataset.outcome === outcome);
    const problems = [];
    const refuse = (why) => { problems.push(why); tests.push(() => false); };
    const rest = typed.replace(/seq\(([^)]*)\)|(outcome|evidence|differs):(\S+)/g, (_, sequence, key, value) => {
      if (key && !values[key].includes(value)) refuse(`${key}: takes ${values[key].join(", ")}`);
      else if (key === "differs") tests.push((row) => "differs" in row.dataset);
      else if (key) ofField.push((button) => (key === "outcome" ? is(button, value) : button.dataset.evidence === value));
      else {
        const pairs = sequence.split(/\s+/).filter(Boolean).map((pair) => pair.split(":"));
        if (!pairs.length || pairs.some(([torch, outcome]) => !torch || !values.outcome.includes(outcome))) refuse("seq(2.12:pass 2.13:float) takes a torch and an outcome each");
        tests.push((row, buttons) => heads.some((like) => pairs.every(([torch, outcome]) => buttons.some((button, index) => {
          const head = heads[index].dataset;
          return button && head.torch === torch && head.flow === like.dataset.flow && head.machine === like.dataset.machine && is(button, outcome);
        }))));
      }
      return " ";
    });
    if (ofField.length) tests.push((row, buttons) => buttons.some((button) => button && ofField.every((test) => test(button))));
    const stray = rest.match(/(?:^|\s)([a-z]+:\S+|seq\(.*)/);
    if (stray) problems.push(`${stray[1]} is no query: there are ${Object.keys(values).join(":, ")}: and seq(2.12:pass 2.13:float)`);
    return { problem: problems[0], text: rest.trim().toLowerCase(), fits: (row, buttons) => tests.every((test) => test(row, buttons)) };
  };

  // Neighbours that came out alike are one bar in a heat map, over which the first has the word; on a phone, which
  // begins with the newest torch, the last.
  const isNarrow = matchMedia("(max-width: 40rem)").matches;
  const join = (fields) => {
    let [first, length, before] = [null, 0, null];
    for (const field of isNarrow ? [...fields].reverse() : fields) {
      const button = field.querySelector("button");
      const alike = Boolean(first && button && button.title === first.title);
      field.classList.remove("joined");
      field.classList.toggle("same", alike);
      if (alike) (isNarrow ? field : before).classList.add("joined");
      if (button) button.classList.remove("worded");
      [first, length, before] = alike ? [first, length + 1, field] : [button, 1, field];
      if (first) first.style.setProperty("--bar", length);
      if (first) first.classList.toggle("worded", length > 2);
    }
  };

  const apply = () => {
    const want = chosen();
    const shown = heads.map((head) => !(
      (want.flow && head.dataset.flow !== want.flow) ||
      (want.machine && head.dataset.machine !== want.machine) ||
      (want.engine && !head.dataset.engines.split(" ").includes(want.engine))
    ));
    heads.forEach((head, index) => { head.hidden = !shown[index]; });
    let from = 0;
    for (const group of groups) {
      const span = Number(group.dataset.span || (group.dataset.span = String(group.colSpan)));
      const visible = shown.slice(from, from + span).filter(Boolean).length;
      group.hidden = visible === 0;
      group.colSpan = Math.max(1, visible);
      from += span;
    }
    const asked = query(want.q || "");
    let count = 0;
    for (const [index, row] of rows.entries()) {
      const fields = [...row.cells].slice(1);
      fields.forEach((field, index) => { field.hidden = !shown[index]; });
      const fits = fields.some((field, index) => {
        const button = shown[index] && field.querySelector("button");
        if (!button) return false;
        if (want.only === "changed" && !("changed" in button.dataset)) return false;
        if (want.outcome === "unexpected") return "unexpected" in button.dataset;
        return !want.outcome || button.dataset.outcome === want.outcome;
      });
      const buttons = fields.map((field, index) => (shown[index] ? field.querySelector("button") : null));
      join(fields.filter((_, index) => shown[index]));
      row.hidden = !(fits && asked.fits(row, buttons) && (want.only !== "differs" || "differs" in row.dataset) && (!want.family || row.dataset.family === want.family) &&
        texts[index].includes(asked.text));
      count += row.hidden ? 0 : 1;
    }
    document.getElementById("count").textContent = (!count && asked.problem) || `${count} of ${rows.length} rows`;
    // Where the keyboard goes, no heading should lie over it.
    const scroll = table.parentElement;
    scroll.style.scrollPadding = `${table.tHead.offsetHeight + 4}px 4px 4px ${table.tHead.rows[0].cells[0].offsetWidth + 4}px`;
    history.replaceState(null, "", address(want));
  };

  const restore = () => {
    const want = new URLSearchParams(location.hash.slice(1));
    for (const control of filters.elements) {
      if (!control.name) continue;
      control.value = want.get(control.name) || "";
      if (control.selectedIndex === -1) control.value = "";
    }
    const place = want.get("open") || "";
    const button = [...table.querySelectorAll("button[data-field]")].find((one) => nameOf(one) === place);
    [opened, run] = [button ? place : "", want.get("run") || data.run];
    document.getElementById("stale").hidden = run === data.run;
    apply();
    operator = (button && want.get("operator")) || "";
    if (button) open(button);
    else if (dialog.open) dialog.close();
    const anchor = [...dialog.querySelectorAll("a[data-operator]")].find((one) => operator && one.dataset.operator === operator);
    if (anchor) anchor.focus();
  };

  // A field, as the address names it.
  const nameOf = (button) => {
    const [row, column] = button.dataset.field.split(" ").map(Number);
    return `${rows[row].dataset.name}@${heads[column].title}`;
  };

  const list = (head, pairs) => {
    const made = element("table");
    const top = made.createTHead().insertRow();
    for (const title of head) top.append(element("th", title, { scope: "col" }));
    const body = made.createTBody();
    for (const pair of pairs) {
      const row = body.insertRow();
      pair.forEach((value, index) => row.append(index ? element("td", value) : element("th", value, { scope: "row" })));
    }
    return made;
  };

  const number = (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))) : "");

  const histogram = (name, counts) => {
    const made = element("details");
    made.append(element("summary", `${name}: how many outputs differ by how many LSB`));
    const entries = Object.entries(counts).map(([key, value]) => [Number(key), value]).sort((a, b) => a[0] - b[0]);
    const most = entries.reduce((largest, [, value]) => Math.max(largest, value), 1);
    const drawn = list(["LSB", "outputs", "share"], entries.map(([key, value]) => [String(key), String(value), ""]));
    [...drawn.tBodies[0].rows].forEach((row, index) => {
      const bar = element("span", undefined, { class: "bar", "aria-hidden": "true" });
      bar.style.width = `${(10 * entries[index][1]) / most}rem`;
      row.cells[2].append(bar);
    });
    made.append(drawn);
    return made;
  };

  const numbers = (body, title, comparisons) => {
    const entries = Object.entries(comparisons || {}).filter(([, one]) => one && typeof one === "object");
    if (!entries.length) return;
    body.append(element("h3", title));
    const columns = ["", "largest", "unit", "mean", "differing"];
    if (entries.some(([, one]) => Object.keys(one.skipped || {}).length)) columns.push("left out");
    body.append(list(columns, entries.map(([name, one]) => [
      name.replaceAll("_", " "),
      ...(one.compared
        ? [one.not_finite ? "not finite" : number(one.max), one.unit === "lsb" ? "LSB" : "absolute", number(one.mean),
          `${number(100 * one.differing)} %`]
        : ["not measured", "", "", ""]),
      Object.entries(one.skipped || {}).map(([operator, why]) => `${operator}: ${why}`).join("; "),
    ].slice(0, columns.length))));
    for (const [name, one] of entries) {
      if (one.histogram && Object.keys(one.histogram).length) body.append(histogram(name.replaceAll("_", " "), one.histogram));
    }
  };

  const paragraph = (body, title, text) => {
    if (!text) return;
    const made = element("p");
    made.append(element("strong", `${title}: `), document.createTextNode(text));
    body.append(made);
  };

  // Where a difference comes from, operator by operator on the operands that each had.
  const origin = (body, exact, operators) => {
    if (!exact) return;
    paragraph(body, "Rounding of the exact result", exact.rounding.replaceAll("_", " "));
    paragraph(body, "No exact result", exact.unavailable);
    paragraph(body, "The reference program's difference begins at", exact.reference_starts_at);
    paragraph(body, "The Q/DQ program's difference begins at", exact.qdq_starts_at);
    const entries = (operators || []).filter((one) => one.reference || one.qdq || one.evidence);
    if (!entries.length) return;
    body.append(element("h3", "Each operator against exact, on the operands that it had"));
    const drawn = list(["operator", "node", "source", "computes with", "decided", "reference, largest LSB", "differing", "Q/DQ, largest LSB", "differing"],
      entries.map((one) => ["", one.levels || one.node, one.source || "", one.why ? `${one.verdict}: ${one.why}` : one.verdict || "", decided(one.evidence), ...[one.reference, one.qdq].flatMap((brief) => (brief
        ? [number(brief.max), `${number(100 * brief.differing)} %`] : ["not found", ""]))]));
    entries.forEach((one, index) => {
      const place = one.levels || one.node;
      drawn.tBodies[0].rows[index].cells[0].append(element("a", one.name, { href: linkTo({ operator: place }), "data-operator": place }));
    });
    body.append(drawn);
    for (const one of entries) {
      if (one.evidence && one.evidence.witness) witness(body, one, one.evidence.witness);
    }
  };

  // How well what is said of an operator is known.
  const decided = (one) => {
    if (!one) return "";
    if (one.kind === "partly" || one.kind === "tested") return `${one.kind}: ${one.why || "the rest is compared"}`;
    const values = `${one.values.toLocaleString("en")} ${one.domain}`;
    if (!one.wrong) return `${one.kind}: exact on ${values}`;
    const sides = [["low", one.low], ["high", one.high]].filter(([, count]) => count);
    const counts = sides.map(([side, count]) => `too ${side} on ${count.toLocaleString("en")}`).join(", ");
    const scheme = one.schemes.length === 1 ? `${one.schemes[0].replaceAll("_", " ")}: ` : "";
    return `${one.kind}: ${scheme}${counts} of ${values}, up to ${number(one.displacement)} LSB past a boundary`;
  };

  const witness = (body, operator, one) => {
    const steps = (pairs) => pairs.map(([name, value]) => `${name} ${value}`).join(", ");
    const most = 8;
    const given = one.inputs
      ? one.inputs.map((flat) => `[${flat.slice(0, most).map((value) => Number(value.toPrecision(9))).join(", ")}${flat.length > most ? ", \u2026" : ""}]`).join(", ")
      : one.seed !== null ? `drawn with seed ${one.seed}` : one.changed.length ? `zeros but for ${one.changed.length} values` : "the first";
    paragraph(body, `An input that shows it, of ${operator.name} at ${operator.levels || operator.node}`,
      `element ${one.element} is ${one.got}, where ${one.exact} is exact; the program: ${steps(one.program) || "not followed"}; exact: ${steps(one.due)}; the input: ${given}`);
  };

  // What each operator adds, as bars, and what adds up along the chain, as a line: in LSB of the operator's own grid.
  const plot = (body, operators) => {
    const entries = (operators || []).filter((one) => one.reference && one.through);
    if (entries.length < 2) return;
    const [width, height, left] = [Math.max(240, 24 * entries.length), 120, 40];
    const most = Math.max(1, ...entries.flatMap((one) => [one.reference.max, one.through.max]));
    const drawn = (name, attributes, text) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
      if (text !== undefined) made.textContent = text;
      return made;
    };
    const y = (value) => height - 15 - ((height - 30) * value) / most;
    const x = (index) => left + ((width - left) * (index + 0.5)) / entries.length;
    const title = `LSB from exact, operator by operator: alone, up to ${number(Math.max(...entries.map((one) => one.reference.max)))}; in the chain, up to ${number(Math.max(...entries.map((one) => one.through.max)))}`;
    const picture = drawn("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title });
    picture.append(drawn("line", { class: "axis", x1: left, x2: width, y1: y(0), y2: y(0) }));
    for (const [value, at] of [[most, y(most) + 4], [0, y(0) + 4]]) picture.append(drawn("text", { x: 0, y: at }, `${number(value)} LSB`));
    entries.forEach((one, index) => picture.append(drawn("rect", { class: "isolated", x: x(index) - 5, width: 10, y: y(one.reference.max), height: Math.max(0, y(0) - y(one.reference.max)) })));
    picture.append(drawn("polyline", { class: "cumulative", points: entries.map((one, index) => `${x(index)},${y(one.through.max)}`).join(" ") }));
    body.append(element("h3", "Alone (bars) and in the chain (line)"), picture);
  };

  const programs = (body, numbered) => {
    if (!numbered) return;
    const pair = Object.fromEntries(Object.entries(numbered).map(([name, lines]) => [name, lines.map((line) => data.lines[line])]));
    const parameters = (pair.qdq || []).map(([, text]) => text)
      .filter((text) => / = (?:de)?quantize_per|choose_qparams/.test(text));
    if (parameters.length) {
      const made = element("details");
      made.append(element("summary", "Quantization parameters: scale, zero point, levels"));
      for (const text of parameters) made.append(element("div", text));
      body.append(made);
    }
    body.append(element("h3", "Programs"));
    const sides = element("div", undefined, { class: "programs" });
    for (const [name, title] of [["qdq", "Q/DQ program"], ["reference", "Reference program"]]) {
      const side = element("section", undefined, { "aria-label": title });
      side.append(element("h4", title));
      const lines = element("ol");
      for (const [mark, text] of pair[name] || []) {
        lines.append(element("li", mark ? `${text}  \u2190 ${mark}` : text, mark ? { class: mark } : {}));
      }
      side.append(lines);
      sides.append(side);
    }
    body.append(sides);
  };

  const open = (button) => {
    const [row, column] = button.dataset.field.split(" ").map(Number);
    const detail = data.fields[row][column];
    document.getElementById("detail-title").textContent = `${rows[row].dataset.name} on ${data.values[detail.machine].cell}: ${button.dataset.outcome}`;
    [opened, current] = [nameOf(button), button];
    history.replaceState(null, "", address());
    const body = document.getElementById("detail-body");
    body.replaceChildren();
    paragraph(body, "From torch to torch", through(row, heads[column].dataset.machine));
    describe(body, detail);
    if (!dialog.open) dialog.showModal();
  };

  // How a case came out on one machine, torch by torch: `float 2.1 to 2.2, mismatch 2.3 to 2.15`.
  const through = (row, on) => {
    const runs = [];
    heads.forEach((head, index) => {
      const button = rows[row].cells[index + 1].querySelector("button");
      if (!button || head.dataset.machine !== on) return;
      const last = runs.at(-1);
      if (last && last.outcome === button.dataset.outcome) last.to = head.dataset.torch;
      else runs.push({ outcome: button.dataset.outcome, from: head.dataset.torch, to: head.dataset.torch });
    });
    return runs.map((one) => `${one.outcome} ${one.from === one.to ? one.from : `${one.from} to ${one.to}`}`).join(", ");
  };

  const describe = (body, detail) => {
    const shown = Object.fromEntries(Object.entries(data.values[detail.shown]).map(([name, value]) => [name, data.values[value]]));
    const machine = data.values[detail.machine];
    paragraph(body, "Another run", run === data.run ? "" : "the link is to one that this page does not have; these are the latest numbers");
    paragraph(body, "Unexpected", shown.complaint);
    paragraph(body, "Why", shown.reason);
    paragraph(body, "Stage", shown.stage);
    if (shown.known) {
      paragraph(body, "Known defect", shown.known.reason);
      if (shown.known.link) body.lastChild.append(document.createTextNode(" "), element("a", "source", { href: shown.known.link, rel: "noreferrer" }));
    }
    if (detail.changed) paragraph(body, "Last changed", `${detail.changed[0]}, from ${detail.changed[1]}`);
    const again = element("p");
    again.append(element("a", "Link to this field of this run", { href: linkTo({}) }), document.createElement("br"));
    again.append(element("strong", "Again: "), element("code", detail.command));
    body.append(again);
    if (shown.structure) {
      const one = shown.structure;
      paragraph(body, "Integer operators", `${one.integer} of ${one.integer + one.float}`);
      const counted = (counts) => Object.entries(counts || {}).map(([name, count]) => `${name} \u00d7 ${count}`).join(", ");
      paragraph(body, "In float", counted(one.float_operators));
      paragraph(body, "Not quantized", (shown.unquantized || []).map((left) => [left.name, left.source].filter(Boolean).join(" ")).join(", "));
      paragraph(body, "Rewrites that matched", one.rewrites ? counted(one.rewrites) || "none" : "");
      for (const near of one.nearest || []) {
        paragraph(body, `Nearest rewrite to ${near.operator}`, near.pattern
          ? `${near.rewrite}, ${near.matched} of ${near.of} calls; it has ${near.pattern}, the program ${near.graph || "an input or a constant"}`
          : `${near.rewrite}, all ${near.of} calls; the two part by an argument`);
      }
    }
    numbers(body, "Differences", shown.numerics);
    origin(body, shown.exact, shown.operators);
    plot(body, shown.operators);
    numbers(body, "Each engine against exact", shown.engines);
    if (shown.seed_check) {
      paragraph(body, "Upstream's own rule says", shown.seed_check.outcome + (typeof shown.seed_check.tolerance === "number"
        ? `, with a tolerance of ${number(shown.seed_check.tolerance)}` : ""));
    }
    if (shown.deterministic === false) paragraph(body, "Not deterministic", "two runs on the same inputs gave other results");
    programs(body, data.values[detail.programs]);
    body.append(element("h3", "Time and machine"));
    body.append(list(["stage", "seconds"], data.values[detail.stages].map((name, index) => [name, number(detail.seconds[index])])));
    const build = machine.build && machine.build.version ? `torch ${machine.build.version}, ` : "";
    if (machine.representation !== "upstream") paragraph(body, "Representation", machine.representation);
    if (!machine.listed) paragraph(body, "Cell", "not one of the list");
    paragraph(body, "Machine", `${build}${machine.cpu.model || ""}, ${(machine.cpu.instruction_sets || []).join(" ")}, Python ${machine.python}, ${machine.started} on ${machine.host}`);
    paragraph(body, "Digest of the integers", shown.digest);
  };

  // A report of one's own becomes the last column: it is read here, and goes nowhere.
  const details = (run, cases) => {
    const add = (value) => data.values.push(value) - 1;
    const machine = add({ ...run, cell: `${run.cell} (yours)` });
    return cases.map((one) => {
      const { reason, programs } = one;
      const shown = Object.fromEntries(Object.entries({ ...one, reason: reason && reason.text }).map(([name, value]) => [name, add(value)]));
      const known = one.known && { reason: one.known.reason, link: /^https?:\/\//.test(one.known.link) ? one.known.link : "" };
      const lines = programs && Object.fromEntries(["qdq", "reference"].map((name) => [name, programs[name].map((line) => data.lines.push(line) - 1)]));
      return {
        shown: add({ ...shown, known: add(known) }), programs: add(lines), machine, command: one.command, changed: null,
        stages: add(Object.keys(one.seconds)), seconds: Object.values(one.seconds),
      };
    });
  };

  const buttonOf = (one, row, column) => {
    const { sign, color } = data.outcomes[one.outcome];
    const kinds = one.operators.filter((operator) => operator.verdict === "integer" && operator.evidence).map((operator) => operator.evidence.kind);
    const evidence = Object.keys(data.marks).reverse().find((kind) => kinds.includes(kind)) || "";
    const word = `${one.outcome}${one.complaint !== null ? ", unexpected" : one.known ? ", known" : ""}`;
    const made = element("button", undefined, { type: "button", "data-field": `${row} ${column}`, "data-outcome": one.outcome, "data-evidence": evidence, class: color, title: evidence ? `${word}; ${evidence}` : word });
    if (one.complaint !== null) made.dataset.unexpected = "";
    made.append(element("span", one.complaint !== null ? "\u203c" : sign, { "aria-hidden": "true" }), element("span", ` ${word}`, { class: "word" }));
    if (evidence) {
      const mark = element("small", undefined, { class: "evidence" });
      mark.append(element("span", data.marks[evidence], { "aria-hidden": "true" }), element("span", ` ${evidence}`, { class: "word" }));
      made.append(" ", mark);
    }
    const digest = (detail) => detail && data.values[data.values[detail.shown].digest];
    const place = data.fields[row].findIndex((other) => digest(other) === one.digest);
    const letter = place < 0 ? null : rows[row].cells[place + 1].querySelector("sup");
    if (one.digest && (letter || (place < 0 && data.fields[row].some(digest)))) made.append(" ", element("sup", letter ? letter.textContent : "new"));
    return made;
  };

  const addColumn = (run, cases, found) => {
    const column = heads.length;
    const title = `${run.cell} (yours)`;
    const head = element("th", `${run.machine} yours`, { scope: "col", title, "data-torch": run.torch.split(".").slice(0, 2).join("."), "data-flow": run.flow, "data-machine": run.machine, "data-engines": run.engines.join(" ") });
    const group = element("th", run.cell.replace(/(.)-[^-]*$/, "$1"), { scope: "colgroup", class: "cell" });
    table.tHead.rows[0].append(group);
    table.tHead.rows[1].append(head);
    heads.push(head);
    groups.push(group);
    const none = () => element("span", "not run", { class: "none" });
    for (const [index, one] of cases.entries()) {
      let row = rows.findIndex((other) => other.dataset.name === one.name);
      if (row < 0) {
        const made = table.tBodies[0].insertRow();
        [made.dataset.name, made.dataset.family] = [one.name, one.family];
        made.append(element("th", one.name, { scope: "row" }));
        for (let place = 0; place < column; place += 1) made.insertCell().append(none());
        row = rows.push(made) - 1;
        data.fields.push(Array(column).fill(null));
      }
      rows[row].insertCell().append(buttonOf(one, row, column));
      data.fields[row][column] = found[index];
    }
    for (const [row, fields] of data.fields.entries()) {
      if (fields.length > column) continue;
      rows[row].insertCell().append(none());
      fields.push(null);
    }
    table.classList.toggle("dense", heads.length > data.dense);
    texts = rows.map(textOf);
    return head;
  };

  const take = async (file) => {
    const said = document.getElementById("count");
    let head;
    try {
      const [run, ...cases] = (await file.text()).trimEnd().split("\n").map((line) => JSON.parse(line));
      const end = cases.pop();
      const names = new Set(cases.map((one) => one.name));
      if (run.record !== "run" || run.schema !== data.schema || !end || end.record !== "end" || end.selected !== cases.length || names.size !== cases.length) throw new Error();
      const found = details(run, cases);
      for (const one of cases) buttonOf({ ...one, digest: null }, 0, 0);
      for (const detail of found) describe(element("div"), detail);
      head = addColumn(run, cases, found);
    } catch {
      said.textContent = `${file.name}: no whole report of schema ${data.schema}: run \`pt2e-ci report\` on it, which says what is wrong`;
      return;
    }
    apply();
    head.scrollIntoView({ block: "nearest", inline: "nearest" });
    said.textContent += `; the last column is ${file.name}`;
  };
  const files = document.getElementById("file");
  files.addEventListener("change", () => { if (files.files.length) take(files.files[0]); });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });

  table.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-field]");
    if (!button) return;
    [operator, run] = ["", data.run];
    open(button);
  });
  dialog.addEventListener("close", () => {
    opened = "";
    history.replaceState(null, "", address());
    if (current) current.focus();
  });
  // Arrow keys go from field to field, over what is hidden.
  table.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const button = event.target.closest("button[data-field]");
    if (!step || !button) return;
    event.preventDefault();
    let [row, column] = button.dataset.field.split(" ").map(Number);
    for (;;) {
      row += step[0];
      column += step[1];
      if (!(row in rows) || column < 0 || column >= heads.length) return;
      const next = rows[row].cells[column + 1].querySelector("button");
      if (next && next.checkVisibility()) { next.focus(); return; }
    }
  });
  table.addEventListener("focusin", (event) => event.target.scrollIntoView({ block: "nearest", inline: "nearest" }));
  filters.addEventListener("input", apply);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(apply));
  addEventListener("hashchange", restore);
  // What is not the answer gives way to it where there is little room.
  if (isNarrow) document.getElementById("fold").open = false;
  restore();
  // On a phone the newest torch is what is seen first.
  if (isNarrow) table.parentElement.scrollLeft = table.parentElement.scrollWidth;
})();
