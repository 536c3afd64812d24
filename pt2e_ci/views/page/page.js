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
  const texts = rows.map((row, index) => [
    row.dataset.name, row.dataset.name.replaceAll("_", " "), row.dataset.family, row.cells[0].textContent,
    ...data.fields[index].map((detail) => (detail && data.values[data.values[detail.shown].reason]) || ""),
  ].join(" ").toLowerCase());

  // The address keeps the filters, so that a view can be sent on; and the field that is open, with the run it is of.
  let [opened, run, current] = ["", data.run, null];
  const chosen = () => Object.fromEntries([...new FormData(filters)].filter(([, value]) => value !== ""));
  const address = (want = chosen()) => `#${new URLSearchParams({ ...want, ...(opened && { open: opened, run }) })}`;

  // What is typed may hold `outcome:float`, `evidence:proved`, `differs:arch` and `seq(2.12:pass 2.13:float)`; the rest
  // is looked for as text. Outcome and evidence are asked of one field, a sequence of one flow on one machine.
  const query = (typed) => {
    const [tests, ofField] = [[], []];
    const is = (button, outcome) => (outcome === "unexpected" ? "unexpected" in button.dataset : button.dataset.outcome === outcome);
    const rest = typed.replace(/seq\(([^)]*)\)|(outcome|evidence|differs):(\S+)/g, (_, sequence, key, value) => {
      if (key === "differs") tests.push((row) => value === "arch" && "differs" in row.dataset);
      else if (key) ofField.push((button) => (key === "outcome" ? is(button, value) : button.dataset.evidence === value));
      else {
        const pairs = sequence.split(/\s+/).filter(Boolean).map((pair) => pair.split(":"));
        tests.push((row, buttons) => heads.some((like) => pairs.every(([torch, outcome]) => buttons.some((button, index) => {
          const head = heads[index].dataset;
          return button && head.torch === torch && head.flow === like.dataset.flow && head.machine === like.dataset.machine && is(button, outcome);
        }))));
      }
      return " ";
    });
    if (ofField.length) tests.push((row, buttons) => buttons.some((button) => button && ofField.every((test) => test(button))));
    return { text: rest.trim().toLowerCase(), fits: (row, buttons) => tests.every((test) => test(row, buttons)) };
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
      row.hidden = !(fits && asked.fits(row, buttons) && (want.only !== "differs" || "differs" in row.dataset) && (!want.family || row.dataset.family === want.family) &&
        texts[index].includes(asked.text));
      count += row.hidden ? 0 : 1;
    }
    document.getElementById("count").textContent = `${count} of ${rows.length} cases`;
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
    if (button) open(button);
    else if (dialog.open) dialog.close();
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
    const entries = (operators || []).filter((one) => one.reference || one.qdq);
    if (!entries.length) return;
    body.append(element("h3", "Each operator against exact, on the operands that it had"));
    body.append(list(["operator", "node", "computes with", "reference, largest LSB", "differing", "Q/DQ, largest LSB", "differing"],
      entries.map((one) => [one.name, one.levels || one.node, one.why ? `${one.verdict}: ${one.why}` : one.verdict || "", ...[one.reference, one.qdq].flatMap((brief) => (brief
        ? [number(brief.max), `${number(100 * brief.differing)} %`] : ["not found", ""]))])));
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
    const shown = Object.fromEntries(Object.entries(data.values[detail.shown]).map(([name, value]) => [name, data.values[value]]));
    const machine = data.values[detail.machine];
    document.getElementById("detail-title").textContent = `${rows[row].dataset.name} on ${machine.cell}: ${button.dataset.outcome}`;
    const body = document.getElementById("detail-body");
    body.replaceChildren();
    paragraph(body, "Another run", run === data.run ? "" : "the link is to one that this page does not have; these are the latest numbers");
    paragraph(body, "Unexpected", shown.complaint);
    paragraph(body, "Why", shown.reason);
    paragraph(body, "Stage", shown.stage);
    if (shown.known) {
      paragraph(body, "Known defect", shown.known.reason);
      if (shown.known.link) body.lastChild.append(document.createTextNode(" "), element("a", "source", { href: shown.known.link, rel: "noreferrer" }));
    }
    if (detail.changed) paragraph(body, "Last changed", `${detail.changed[0]}, from ${detail.changed[1]}`);
    [opened, current] = [nameOf(button), button];
    history.replaceState(null, "", address());
    const again = element("p");
    const link = `#${new URLSearchParams({ ...chosen(), open: opened, run: data.run })}`;
    again.append(element("a", "Link to this field of this run", { href: link }), document.createElement("br"));
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
    if (!dialog.open) dialog.showModal();
  };

  table.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-field]");
    if (!button) return;
    run = data.run;
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
  restore();
  // On a phone the newest torch is what is seen first.
  if (matchMedia("(max-width: 40rem)").matches) table.parentElement.scrollLeft = table.parentElement.scrollWidth;
})();
