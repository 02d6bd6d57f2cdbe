// Search, filter, sort and plot. What plugins wrote only ever becomes textContent.
const rows = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const CHOICES = ["family", "task", "license", "plugin"];
const SWITCHES = ["pretrained", "commercial", "streaming"];
const COLORS = 7; // classes c0 to c6 of the style
const PAGE = 200;
const families = [...new Set(rows.map((row) => row.family))].sort();
const color = (family) => `c${Math.min(families.indexOf(family), COLORS - 1)}`;
let sort = { key: "name", down: false };
let shown = PAGE;

const add = (parent, tag, text, attributes = {}) => {
  const svg = parent.namespaceURI === "http://www.w3.org/2000/svg" || tag === "svg";
  const child = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) child.setAttribute(name, value);
  if (text !== undefined) child.textContent = text;
  parent.append(child);
  return child;
};

const short = (count) => {
  if (count === null) return "";
  if (count >= 1e9) return `${(count / 1e9).toPrecision(3)}B`;
  if (count >= 1e6) return `${(count / 1e6).toPrecision(3)}M`;
  return count >= 1e3 ? `${(count / 1e3).toPrecision(3)}k` : `${count}`;
};
const LIMITS = ["most", "flops", "least"];
const number = (text) => {
  const found = /^\s*(\d+\.?\d*|\.\d+)\s*([kmb%]?)\s*$/i.exec(text);
  return found ? parseFloat(found[1]) * { "": 1, "%": 1, k: 1e3, m: 1e6, b: 1e9 }[found[2].toLowerCase()] : null;
};
const ofVideos = (row) => row.results.filter(([, , level]) => level === "video");
const on = (row, dataset) => ofVideos(row).find(([name]) => name === dataset);

for (const row of rows) {
  const said = [row.name, row.about, row.family, row.task, row.license, ...row.results.map(([name]) => name)];
  row.words = said.join(" ").toLowerCase();
}
for (const key of CHOICES) {
  for (const value of [...new Set(rows.map((row) => row[key]))].sort()) add($(key), "option", value, { value });
}
const datasets = new Map();
for (const row of rows) for (const [name] of ofVideos(row)) datasets.set(name, (datasets.get(name) ?? 0) + 1);
for (const [value] of [...datasets].sort((a, b) => b[1] - a[1])) add($("dataset"), "option", value, { value });
for (const part of document.querySelectorAll(".of-results")) part.hidden = datasets.size === 0;

function found() {
  const words = $("q").value.toLowerCase().split(/\s+/).filter(Boolean);
  const [most, flops, least] = LIMITS.map((id) => number($(id).value));
  const dataset = $("dataset").value;
  return rows.filter(
    (row) =>
      words.every((word) => row.words.includes(word)) &&
      CHOICES.every((key) => !$(key).value || row[key] === $(key).value) &&
      SWITCHES.every((key) => !$(key).checked || row[key]) &&
      (most === null || (row.params !== null && row.params <= most)) &&
      (flops === null || (row.gflops !== null && row.gflops <= flops)) &&
      (least === null || (on(row, dataset)?.[1] ?? -1) >= least),
  );
}

function ordered(list) {
  const dataset = $("dataset").value;
  const value = (row) => (sort.key === "top1" ? (on(row, dataset)?.[1] ?? null) : row[sort.key]);
  const sign = sort.down ? -1 : 1;
  return [...list].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null); // what is not known comes last either way
    return sign * (typeof x === "string" ? x.localeCompare(y) : x - y) || a.name.localeCompare(b.name);
  });
}

function table(list) {
  const body = $("models").tBodies[0];
  const dataset = $("dataset").value;
  body.replaceChildren();
  for (const row of list.slice(0, shown)) {
    const line = add(body, "tr");
    const cell = add(line, "th", undefined, { scope: "row" });
    add(cell, "a", row.name, { href: row.page });
    add(cell, "small", row.about);
    const family = add(line, "td", undefined, { class: "family" });
    add(add(family, "svg", undefined, { viewBox: "0 0 10 10" }), "circle", undefined, { cx: 5, cy: 5, r: 5, class: color(row.family) });
    add(family, "span", row.family);
    add(line, "td", short(row.params), { class: "number", "data-name": "parameters" });
    add(line, "td", row.gflops === null ? "" : `${+row.gflops.toPrecision(3)}`, { class: "number", "data-name": "GFLOPs" });
    const [set, value] = on(row, dataset) ?? row.results[0] ?? [];
    const result = add(line, "td", value === undefined ? "" : `${value}`, { class: "number", "data-name": "top-1" });
    if (set) add(result, "small", set);
  }
  $("more").hidden = list.length <= shown;
  $("more").textContent = `Show ${Math.min(PAGE, list.length - shown)} more of ${list.length - shown}`;
}

function plot(list) {
  const svg = $("plot");
  const width = Math.max(svg.parentElement.clientWidth, 280);
  const height = 360;
  const [left, right, top, bottom] = [44, 20, 34, 52];
  const dataset = $("dataset").value;
  const cost = $("cost").value;
  const points = list.filter((row) => row[cost] > 0 && on(row, dataset)).map((row) => [row[cost], on(row, dataset)[1], row]);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  hide();
  if (!points.length) {
    add(svg, "text", "No model that matches has a figure here.", { x: width / 2, y: height / 2, "text-anchor": "middle" });
    return;
  }
  const logs = points.map(([x]) => Math.log10(x));
  const ys = points.map(([, y]) => y);
  const [x0, x1] = [Math.min(...logs) - 0.12, Math.max(...logs) + 0.12];
  const step = [0.5, 1, 2, 5, 10, 20].find((s) => (Math.max(...ys) - Math.min(...ys) + 2) / s <= 8) ?? 20;
  const [y0, y1] = [Math.floor((Math.min(...ys) - 0.5) / step) * step, Math.ceil((Math.max(...ys) + 0.5) / step) * step];
  const px = (log) => left + ((log - x0) / (x1 - x0)) * (width - left - right);
  const py = (y) => height - bottom - ((y - y0) / (y1 - y0)) * (height - top - bottom);
  for (let y = y0; y <= y1 + 1e-9; y += step) {
    add(svg, "line", undefined, { x1: left, x2: width - right, y1: py(y), y2: py(y), class: "grid" });
    add(svg, "text", `${+y.toFixed(1)}`, { x: left - 6, y: py(y) + 4, "text-anchor": "end" });
  }
  for (let power = Math.floor(x0); power <= x1; power++) {
    for (const digit of x1 - x0 > 2.5 ? [1] : x1 - x0 > 1 ? [1, 3] : [1, 2, 3, 5, 7]) {
      const log = power + Math.log10(digit);
      if (log < x0 || log > x1) continue;
      add(svg, "line", undefined, { x1: px(log), x2: px(log), y1: top, y2: height - bottom, class: "grid" });
      const value = 10 ** log;
      const text = cost === "params" ? short(Math.round(value)) : `${+value.toPrecision(2)}`;
      add(svg, "text", text, { x: px(log), y: height - bottom + 18, "text-anchor": "middle" });
    }
  }
  add(svg, "text", `top-1 on ${dataset}, %`, { x: 12, y: 20 });
  const unit = $("cost").selectedOptions[0].textContent;
  add(svg, "text", unit, { x: (left + width - right) / 2, y: height - 12, "text-anchor": "middle" });
  for (const [x, y, row] of points.sort((a, b) => a[0] - b[0])) {
    const link = add(svg, "a", undefined, { href: row.page, "aria-label": `${row.name}, ${y} percent` });
    add(link, "circle", undefined, { cx: px(Math.log10(x)), cy: py(y), r: 14, fill: "transparent" }); // easy to hit
    add(link, "circle", undefined, { cx: px(Math.log10(x)), cy: py(y), r: 6, class: `point ${color(row.family)}` });
    const show = () => tip(row, x, y, px(Math.log10(x)) / width, py(y) / height);
    link.addEventListener("pointerenter", show);
    link.addEventListener("focus", show);
    link.addEventListener("pointerleave", hide);
    link.addEventListener("blur", hide);
  }
  const legend = $("legend");
  legend.replaceChildren();
  for (const family of families.filter((name) => points.some(([, , row]) => row.family === name))) {
    add(add(legend, "svg", undefined, { viewBox: "0 0 10 10" }), "circle", undefined, { cx: 5, cy: 5, r: 5, class: color(family) });
    add(legend, "span", family);
  }
}

function tip(row, x, y, across, down) {
  const box = $("tip");
  box.replaceChildren();
  add(box, "b", row.name);
  const cost = $("cost").value === "params" ? `${short(x)} parameters` : `${+x.toPrecision(3)} GFLOPs`;
  add(box, "span", `${y} % on ${$("dataset").value}, ${on(row, $("dataset").value)[3]}`);
  add(box, "span", `${cost}, licence ${row.license}`);
  box.hidden = false;
  box.style.left = `${across * 100}%`;
  box.style.top = `${down * 100}%`;
  box.style.translate = `${across > 0.6 ? "calc(-100% - 14px)" : "14px"} ${down > 0.6 ? "-100%" : "0"}`;
}
function hide() {
  $("tip").hidden = true;
}

const FIELDS = ["q", ...CHOICES, ...LIMITS, "dataset", "cost"];
function remember() {
  const state = new URLSearchParams();
  for (const id of FIELDS) {
    const field = $(id);
    const usual = field.tagName === "SELECT" ? (field.options[0]?.value ?? "") : "";
    if (field.value !== usual) state.set(id, field.value);
  }
  for (const key of SWITCHES) if ($(key).checked) state.set(key, "1");
  if (sort.key !== "name" || sort.down) state.set("sort", (sort.down ? "-" : "") + sort.key);
  history.replaceState(null, "", state.size ? `#${state}` : location.pathname.split("/").pop() || "./");
}
function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const id of FIELDS) if (state.has(id)) $(id).value = state.get(id);
  for (const key of SWITCHES) $(key).checked = state.has(key);
  const key = state.get("sort") ?? "name";
  sort = { key: key.replace("-", ""), down: key.startsWith("-") };
}

function update() {
  const list = ordered(found());
  const all = rows.length.toLocaleString("en");
  $("count").textContent = list.length === rows.length ? `${all} names` : `${list.length.toLocaleString("en")} of ${all} names`;
  for (const id of LIMITS) $(id).setAttribute("aria-invalid", $(id).value.trim() !== "" && number($(id).value) === null);
  for (const button of document.querySelectorAll("[data-sort]")) {
    const now = button.dataset.sort === sort.key;
    button.parentElement.setAttribute("aria-sort", now ? (sort.down ? "descending" : "ascending") : "none");
  }
  table(list);
  if (!$("chart").hidden) plot(list);
}
function changed() {
  shown = PAGE;
  update();
  remember();
}

$("form").addEventListener("submit", (event) => event.preventDefault());
$("form").addEventListener("input", changed);
$("form").addEventListener("reset", () => setTimeout(changed));
$("cost").addEventListener("change", changed);
for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => {
    const key = button.dataset.sort;
    sort = { key, down: sort.key === key ? !sort.down : key === "top1" };
    changed();
  });
}
$("more").addEventListener("click", () => {
  shown += PAGE;
  update();
});
addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
  if (event.key === "/" && !typing) {
    event.preventDefault();
    $("q").focus();
  } else if (event.key === "Escape" && document.activeElement === $("q")) {
    $("q").value = "";
    changed();
  }
});
addEventListener("resize", update);
recall();
update();
