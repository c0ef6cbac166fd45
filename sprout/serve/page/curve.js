// A small picture of a curve: axes with ticks and labels, one line for each series, a read-out where one points (or walks
// with the arrow keys), and the same as a table for those who can't see it.

import { h, svg } from "./dom.js";

const H = 260, LEFT = 44, RIGHT = 10, TOP = 40, BOTTOM = 40; // pixels; the width is what there is

/**
 * @typedef {{name: string, x: number[], y: number[]}} Series
 * @param {{title: string, xLabel: string, yLabel: string, empty?: string, digits?: number}} words
 */
export class Curve {
  constructor({ title, xLabel, yLabel, empty = "Nothing yet.", digits = 2 }) {
    Object.assign(this, { title, xLabel, yLabel, empty, digits, points: [], at: null });
    this.picture = svg("svg", { "aria-hidden": "true", height: H });
    this.readout = h("p", { class: "readout", "aria-live": "off" });
    this.stage = h("div", { class: "curve-stage", tabindex: "0", role: "group" }, this.picture);
    this.table = h("table", {});
    this.element = h("figure", { class: "curve" }, h("figcaption", {}, title), this.stage, this.readout,
      h("details", { class: "quiet" }, h("summary", {}, "As a table"), this.table));
    new ResizeObserver(() => { if (this.drawn && this.stage.clientWidth !== this.width) this.set(...this.drawn); }).observe(this.stage);
    this.stage.addEventListener("pointermove", (event) => this.point(event));
    this.stage.addEventListener("pointerleave", () => this.mark(null));
    this.stage.addEventListener("blur", () => this.mark(null));
    this.stage.addEventListener("keydown", (event) => this.key(event));
  }

  /** @param {Series[]} series  one behind the other along x  @param {number} xEnd  how far the axis goes */
  set(series, xEnd) {
    this.drawn = [series, xEnd];
    this.width = this.stage.clientWidth || 640;
    this.picture.setAttribute("viewBox", `0 0 ${this.width} ${H}`);
    const full = series.filter((s) => s.x.length);
    this.points = full.flatMap((s) => s.x.map((x, i) => ({ x, y: s.y[i], name: s.name, step: s.steps?.[i] ?? x })));
    const ys = this.points.map((p) => p.y);
    const [low, high] = ys.length ? [Math.min(0, ...ys), Math.max(...ys)] : [0, 1];
    const top = high > low ? high + 0.04 * (high - low) : low + 1;
    this.sx = (x) => LEFT + ((this.width - LEFT - RIGHT) * x) / Math.max(1, xEnd);
    this.sy = (y) => H - BOTTOM - ((H - BOTTOM - TOP) * (y - low)) / (top - low);
    this.cross = svg("g", { class: "cross" });
    this.picture.replaceChildren(...this.axes(ticks(0, xEnd), ticks(low, top)), ...full.map((s) => this.line(s)), ...this.names(full), this.cross);
    const last = this.points.at(-1);
    this.stage.setAttribute("aria-label", `${this.title}. ${last ? `Latest: ${this.say(last)}.` : this.empty} Arrow keys walk along the curve.`);
    this.fillTable();
    this.mark(this.at);
  }

  axes(xs, ys) {
    const text = (x, y, anchor, said, kind = "tick") => svg("text", { x, y, "text-anchor": anchor, class: kind }, said);
    const across = ys.flatMap((y) => [svg("line", { class: "grid", x1: LEFT, x2: this.width - RIGHT, y1: this.sy(y), y2: this.sy(y) }), text(LEFT - 8, this.sy(y) + 4, "end", short(y))]);
    const along = xs.flatMap((x) => [svg("line", { class: "axis", x1: this.sx(x), x2: this.sx(x), y1: H - BOTTOM, y2: H - BOTTOM + 4 }), text(this.sx(x), H - BOTTOM + 17, "middle", short(x))]);
    const base = svg("line", { class: "axis", x1: LEFT, x2: this.width - RIGHT, y1: H - BOTTOM, y2: H - BOTTOM });
    return [...across, base, ...along, text(this.width - RIGHT, H - 5, "end", this.xLabel, "label"), text(0, 12, "start", this.yLabel, "label")];
  }

  line(series) {
    const places = series.x.map((x, i) => `${this.sx(x).toFixed(1)},${this.sy(series.y[i]).toFixed(1)}`);
    const begin = this.sx(series.x[0]);
    const fence = svg("line", { class: "fence", x1: begin, x2: begin, y1: TOP - 4, y2: H - BOTTOM });
    return svg("g", {}, fence, svg("polyline", { class: "line", points: places.join(" ") }));
  }

  /** The names stand where their lines begin, or right of the name before. */
  names(series) {
    let free = 0;
    return series.map(({ name, x }) => {
      const left = Math.max(free, this.sx(x[0]) + 5);
      free = left + 7.5 * name.length + 6;
      return svg("text", { x: left, y: TOP - 8, class: "series" }, name);
    });
  }

  say = (p) => `${p.name}, step ${p.step}: ${this.yLabel} ${p.y.toFixed(this.digits)}`;

  point(event) {
    const box = this.picture.getBoundingClientRect();
    const x = event.clientX - box.left;
    let best = null;
    this.points.forEach((p, i) => { if (best === null || Math.abs(this.sx(p.x) - x) < Math.abs(this.sx(this.points[best].x) - x)) best = i; });
    this.mark(best);
  }

  key(event) {
    const last = this.points.length - 1, jump = Math.max(1, Math.round(last / 40));
    const at = this.at ?? last;
    const to = { ArrowLeft: at - jump, ArrowRight: at + jump, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.readout.setAttribute("aria-live", "polite");
    this.mark(Math.max(0, Math.min(last, to)));
  }

  mark(at) {
    this.at = at !== null && at < this.points.length ? at : null;
    const p = this.points[this.at ?? this.points.length - 1];
    this.readout.textContent = p ? this.say(p) : this.empty;
    if (this.at === null) { this.cross?.replaceChildren(); return; }
    const x = this.sx(p.x), y = this.sy(p.y);
    this.cross.replaceChildren(svg("line", { x1: x, x2: x, y1: TOP, y2: H - BOTTOM }), svg("circle", { cx: x, cy: y, r: 4 }));
  }

  /** A dozen rows, evenly spread. */
  fillTable() {
    const every = Math.max(1, Math.ceil(this.points.length / 12));
    const rows = this.points.filter((_, i) => i % every === 0 || i === this.points.length - 1);
    this.table.replaceChildren(h("thead", {}, h("tr", {}, ["stage", "step", this.yLabel].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map((p) => h("tr", {}, h("td", {}, p.name), h("td", {}, String(p.step)), h("td", {}, p.y.toFixed(this.digits))))));
  }
}

/** About five round numbers from `low` to `high`. */
export function ticks(low, high) {
  const rough = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + 1e-9; i++) found.push(i * step);
  return found;
}

const short = (x) => (Math.abs(x) >= 10_000 ? `${x / 1000}k` : String(Number(x.toFixed(3))));
