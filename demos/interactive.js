// Shows what interactive.py has computed; computes nothing but positions in a picture.
"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);

// ---- pictures

const element = (name, attributes = {}, text = "") => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
};

// An area of an SVG with axes: x from left to right, y upwards; ranges may fall.
class Panel {
  constructor(svg, [left, top, width, height], xRange, yRange) {
    Object.assign(this, { svg, left, top, width, height, xRange, yRange });
  }
  static fraction(value, [from, to]) { return Math.max(0, Math.min(1, (value - from) / (to - from))); }
  x(value) { return this.left + this.width * Panel.fraction(value, this.xRange); }
  y(value) { return this.top + this.height * (1 - Panel.fraction(value, this.yRange)); }
  add(name, attributes, text) { this.svg.append(element(name, attributes, text)); }
  line(xs, ys, kind) {
    const points = xs.map((x, i) => `${this.x(x).toFixed(1)},${this.y(ys[i]).toFixed(1)}`).join(" ");
    this.add("polyline", { points, class: kind });
  }
  vertical(x, text, row) {
    this.line([x, x], this.yRange, "axis");
    this.add("text", { x: this.x(x) + 4, y: this.top + 16 * row }, text);
  }
  axes(xTicks, yTicks, xName, yName, name = String) {
    const bottom = this.top + this.height;
    this.add("rect", { x: this.left, y: this.top, width: this.width, height: this.height, class: "axis" });
    for (const tick of xTicks)
      this.add("text", { x: this.x(tick), y: bottom + 16, "text-anchor": "middle" }, name(tick));
    for (const tick of yTicks)
      this.add("text", { x: this.left - 5, y: this.y(tick) + 4, "text-anchor": "end" }, name(tick));
    this.add("text", { x: this.left + this.width / 2, y: bottom + 33, "text-anchor": "middle" }, xName);
    this.add("text", { x: this.left, y: this.top - 7 }, yName);
  }
}

const drawing = (figure, width, height, label) => {
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  figure.replaceChildren(svg);
  return svg;
};

// ---- controls

const control = (parent, name, input) => {
  const label = document.createElement("label");
  label.append(name, input);
  parent.append(label);
  return input;
};

const select = (parent, name, choices, chosen, changed) => {
  const made = document.createElement("select");
  for (const [value, text] of choices) made.append(new Option(text, value, false, String(value) === String(chosen)));
  made.addEventListener("change", changed);
  return control(parent, name, made);
};

const slider = (parent, name, last, value, changed) => {
  const made = document.createElement("input");
  Object.assign(made, { type: "range", min: 0, max: last, value });
  made.addEventListener("input", changed);
  return control(parent, name, made);
};

// ---- the data at t

const forward = figures.forward, part = document.getElementById("forward");
const wide = matchMedia("(min-width: 40rem)");
const showForward = () => {
  const i = time.value, t = forward.times[i], x0 = forward.x0[start.value], xt = forward.xt[state.value];
  const mean = forward.mean[i][start.value][state.value], deviation = forward.deviation[i];
  part.querySelector("output").textContent =
    `t = ${t}, ᾱ_t = ${forward.alpha_bar[i]}; x_0 = ${x0}, x_t = ${xt}: ` +
    `x_${t - 1} has mean ${mean.toFixed(3)} and standard deviation ${deviation.toFixed(3)}`;
  time.setAttribute("aria-valuetext", `t = ${t}`);
  state.setAttribute("aria-valuetext", `x_t = ${xt}`);
  const width = wide.matches ? 900 : 400;
  const svg = drawing(part.querySelector("figure"), width, 430, `density and score of q at t = ${t}`);
  const area = [45, 25, width - 55, 180], below = [45, 265, width - 55, 120];
  const density = forward.density[i], highest = Math.max(...density);
  const upper = new Panel(svg, area, [-2.5, 2.5], [0, 1.1 * highest]);
  upper.axes([-2, -1, 0, 1, 2], [0, Number(highest.toPrecision(2))], "", "density of x_t");
  upper.line(forward.grid, density, "curve a");
  const [at, height] = forward.bell;
  const bell = new Panel(svg, area, [-2.5, 2.5], [0, 1.25]);
  bell.line(at.map(z => mean + deviation * z), height, "curve b");
  bell.vertical(x0, "x_0", 1);
  bell.vertical(xt, "x_t", 2);
  const steepest = Math.max(...forward.score[i].map(Math.abs)) < 5 ? 5 : 20;
  const lower = new Panel(svg, below, [-2.5, 2.5], [-steepest, steepest]);
  lower.axes([-2, -1, 0, 1, 2], [-steepest, 0, steepest], "x", `score, up to ± ${steepest}`);
  lower.line([-2.5, 2.5], [0, 0], "axis");
  lower.line(forward.grid, forward.score[i], "curve a");
};
const row = part.querySelector(".controls");
const time = slider(row, "t", forward.times.length - 1, 30, showForward);
const start = select(row, "x_0", forward.x0.map((x, i) => [i, x]), 0, showForward);
const state = slider(row, "x_t", forward.xt.length - 1, 28, showForward);

// ---- the samplers

const { choices } = figures;
const key = (side, steps) => {
  const options = side.sampler.value === "ddim" ? [side.eta.value] : [];
  return [side.sampler.value, steps, side.spacing.value, ...options].join(" ");
};

const showSide = (side, index) => {
  side.eta.disabled = side.sampler.value !== "ddim";
  const made = figures.samplers[key(side, side.steps.value)], kind = "ab"[index];
  const svg = drawing(side.figure, 440, 340, `paths and samples of sampler ${"AB"[index]}`);
  const paths = new Panel(svg, [35, 25, 240, 260], [1000, 0], [-2.5, 2.5]);
  paths.axes([1000, 500, 0], [-2, -1, 0, 1, 2], "t", "x_t");
  for (const path of made.paths) paths.line(made.t, path, `thin ${kind}`);
  const bins = new Panel(svg, [320, 25, 105, 260], [0, figures.highest], [-1.2, 1.2]);
  bins.axes([0, figures.highest], [-1, 0, 1], "density", "x_0");
  const height = Math.abs(bins.y(figures.bins[1]) - bins.y(figures.bins[0]));
  figures.bins.forEach((x, i) => {
    const width = bins.x(made.histogram[i]) - bins.left;
    bins.add("rect", { x: bins.left, y: bins.y(x) - height / 2, width, height, class: index ? "bar second" : "bar" });
  });
  bins.line(figures.density, figures.bins, "exact");
  side.output.textContent = `distance to the data ${made.distance.toFixed(4)}; of real points ` +
    `${figures.floor[0].toFixed(4)} ± ${figures.floor[1].toFixed(4)}`;
};

const showDistances = () => {
  const width = wide.matches ? 900 : 400, figure = document.getElementById("distances");
  const svg = drawing(figure, width, 300, "distance by the number of steps, of both samplers");
  const log = Math.log10, ticks = [0.001, 0.01, 0.1].map(log), [floor, spread] = figures.floor;
  const panel = new Panel(svg, [60, 25, width - 80, 225], [log(2.5), log(250)], [log(0.0005), log(0.5)]);
  panel.axes(choices.steps.map(log), ticks, "steps", "distance", value => String(Number((10 ** value).toPrecision(3))));
  const [top, bottom] = [floor + 2 * spread, Math.max(floor - 2 * spread, 0.0005)].map(value => panel.y(log(value)));
  panel.add("rect", { x: panel.left, y: top, width: panel.width, height: bottom - top, class: "floor" });
  sides.forEach((side, index) => {
    const values = choices.steps.map(steps => log(figures.samplers[key(side, steps)].distance));
    panel.line(choices.steps.map(log), values, `curve ${"ab"[index]}`);
    choices.steps.forEach((steps, i) => panel.add("circle", {
      cx: panel.x(log(steps)), cy: panel.y(values[i]), r: String(steps) === side.steps.value ? 7 : 3,
      fill: `var(--${index ? "orange" : "blue"})`,
    }));
  });
};

const showSamplers = () => { sides.forEach(showSide); showDistances(); };
const sides = [...document.querySelectorAll("#samplers section")].map((section, index) => {
  const row = section.querySelector(".controls"), figure = section.querySelector("figure");
  const plain = values => values.map(value => [value, value]);
  const output = document.createElement("output");
  section.append(output);
  return {
    figure, output,
    sampler: select(row, "sampler", Object.entries(choices.sampler), ["ddpm", "ddim"][index], showSamplers),
    steps: select(row, "steps", plain(choices.steps), 20, showSamplers),
    spacing: select(row, "spacing", plain(choices.spacing), "trailing", showSamplers),
    eta: select(row, "η", plain(choices.eta.map(Number)), 0, showSamplers),
  };
});

// ---- at first, and where a phone is turned

const show = () => { showForward(); showSamplers(); };
wide.addEventListener("change", show);
show();
