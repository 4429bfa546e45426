// Four plots over one time axis; a cursor in one of them shows its second in all.

const SVG = 'http://www.w3.org/2000/svg';
const [WIDE, HIGH] = [1000, 100]; // of the drawing, stretched to the field
const both = (first) => [['read', first], ['write', first + 1]];
const tail = (first) => [['p50', first], ['p99', first + 1], ['p99.9', first + 2]];
const PLOTS = [
  { title: 'I/O per second', lines: both(0), format: count, axis: axis(brief), step: 10 },
  { title: 'Bandwidth', lines: both(2), format: rate, axis: axis(rate), step: 2 },
  { title: 'Read latency', lines: tail(4), kind: 'r', format: time, axis: axis(time), log: true },
  { title: 'Write latency', lines: tail(7), kind: 'w', format: time, axis: axis(time), log: true },
];
const view = { scope: ALL, span: 120, age: 0, end: 0 };

function build() {
  for (const plot of PLOTS) {
    const figure = el('figure', `plot ${plot.kind || ''}`);
    const legend = el('ul', 'legend');
    plot.values = plot.lines.map(([name], index) => {
      const item = el('li', `line${index}`);
      const value = el('b', '', DASH);
      item.append(el('span', 'key'), el('span', 'name', name), ' ', value);
      legend.append(item);
      return value;
    });
    plot.field = el('div', 'field');
    plot.peak = el('p', 'peak muted');
    figure.append(el('h3', '', plot.title), legend, plot.field, plot.peak);
    buildField(plot);
    $('plots').append(figure);
  }
}

function buildField(plot) {
  const { field } = plot;
  const image = document.createElementNS(SVG, 'svg');
  attr(image, 'viewBox', `0 0 ${WIDE} ${HIGH}`);
  attr(image, 'preserveAspectRatio', 'none');
  attr(image, 'aria-hidden', 'true');
  const path = (name) => {
    const made = document.createElementNS(SVG, 'path');
    attr(made, 'class', name);
    image.append(made);
    return made;
  };
  plot.grid = path('grid');
  if (!plot.log) plot.areas = plot.lines.map((_, index) => path(`area line${index}`));
  plot.paths = plot.lines.map((_, index) => path(`line${index}`));
  plot.scale = el('div', 'scale');
  plot.cursor = el('span', 'cursor');
  field.append(image, plot.scale, plot.cursor);
  field.tabIndex = 0;
  for (const [name, value] of [['role', 'slider'], ['aria-label', `${plot.title}, over time`],
    ['aria-describedby', 'plots-how'], ['aria-valuemax', 0], ['aria-valuenow', 0]]) {
    attr(field, name, value);
  }
  field.addEventListener('pointermove', (event) => {
    const box = field.getBoundingClientRect();
    moveTo((1 - (event.clientX - box.left) / box.width) * view.span);
  });
  field.addEventListener('pointerleave', () => moveTo(0));
  field.addEventListener('blur', () => moveTo(0));
  field.addEventListener('focus', () => speak(plot));
  field.addEventListener('keydown', (event) => {
    const to = { ArrowLeft: view.age + 1, ArrowDown: view.age + 1, ArrowRight: view.age - 1,
      ArrowUp: view.age - 1, PageUp: view.age + 10, PageDown: view.age - 10, End: 0, Escape: 0,
      Home: view.span }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    moveTo(to);
    speak(plot);
  });
}

// Says a second's values to who does not see them; not every second, only when asked.
function speak(plot) {
  const values = plot.lines.map(([name], index) => `${name} ${plot.values[index].textContent}`);
  attr(plot.field, 'aria-valuenow', -Math.round(view.age));
  attr(plot.field, 'aria-valuetext', `${$('when').textContent}: ${values.join(', ')}`);
}

function moveTo(age) {
  view.age = Math.min(view.span, Math.max(0, age));
  legends();
}

// The samples of the span, oldest first: [slot, x].
function samples() {
  const all = [];
  for (let n = Math.max(0, model.taken - KEPT); n < model.taken; n += 1) {
    const slot = slotOf(n);
    const x = (1 - (view.end - model.times[slot]) / (view.span * 1000)) * WIDE;
    if (x >= 0) all.push([slot, x]);
  }
  return all;
}

function nearest(all) {
  const x = (1 - view.age / view.span) * WIDE;
  const reach = (2000 / (view.span * 1000)) * WIDE;
  let best = null;
  for (const sample of all) {
    if (!best || Math.abs(sample[1] - x) <= Math.abs(best[1] - x)) [best] = [sample];
  }
  return best && (view.age === 0 || Math.abs(best[1] - x) <= reach) ? best[0] : null;
}

function legends() {
  const slot = nearest(samples());
  const series = model.series.get(view.scope);
  const isPast = view.age > 0;
  for (const plot of PLOTS) {
    plot.lines.forEach(([, column], index) => {
      const value = slot === null || !series ? NaN : series[slot * COLUMNS + column];
      put(plot.values[index], plot.format(value));
    });
    plot.cursor.hidden = !isPast;
    plot.cursor.style.left = `${(1 - view.age / view.span) * 100}%`;
    attr(plot.field, 'aria-valuemin', -view.span);
  }
  const at = slot === null ? view.end - view.age * 1000 : model.times[slot];
  const now = model.lastAt ? `now, ${clock(at)}` : '';
  put($('when'), isPast ? `at ${clock(at)}, ${period(view.age)} ago` : now);
}

// A round number not below `top`.
function ceiling(top, step) {
  if (!(top > 0)) return 1;
  const size = step ** Math.floor(Math.log(top) / Math.log(step));
  return [1, 1.5, 2, 3, 4, 6, 8, 10].find((n) => n * size >= top * 0.999) * size;
}

// From a value to its height, and the values that are marked.
function scaleOf(plot, low, high) {
  if (!plot.log) {
    const top = Math.max(ceiling(high, plot.step), plot.step === 2 ? 1024 : 4);
    return { y: (value) => HIGH * (1 - value / top), marks: [0, top / 2, top] };
  }
  const from = Number.isFinite(low) ? Math.floor(Math.log10(low)) : 4;
  const to = Math.max(Number.isFinite(high) ? Math.ceil(Math.log10(high)) : 7, from + 1);
  const marks = Array.from({ length: to - from + 1 }, (_, n) => 10 ** (from + n));
  const y = (value) => HIGH * (1 - (Math.log10(Math.max(value, 1)) - from) / (to - from));
  return { y, marks };
}

function trace(all, series, column, y) {
  let line = '';
  let area = '';
  let start = null;
  let x = 0;
  const close = () => {
    if (start !== null) area += `V${HIGH}H${start}Z`;
    start = null;
  };
  for (const [slot, at] of all) {
    const value = series[slot * COLUMNS + column];
    if (Number.isNaN(value)) {
      close();
      continue;
    }
    const point = `${at.toFixed(1)} ${y(value).toFixed(2)}`;
    line += start === null ? `M${point}h.01` : `L${point}`;
    area += start === null ? `M${at.toFixed(1)} ${HIGH}L${point}` : `L${point}`;
    x = at;
    start ??= x.toFixed(1);
  }
  close();
  return [line, area];
}

function draw() {
  view.end = model.lastAt;
  const all = samples();
  const series = model.series.get(view.scope) || new Float32Array(KEPT * COLUMNS).fill(NaN);
  for (const plot of PLOTS) {
    const tops = plot.lines.map(([, column]) => {
      const values = all.map(([slot]) => series[slot * COLUMNS + column]).filter((n) => n >= 0);
      return [Math.min(...values), Math.max(...values)];
    });
    const high = Math.max(...tops.map(([, top]) => top));
    const scale = scaleOf(plot, Math.min(...tops.map(([low]) => low)), high);
    drawScale(plot, scale);
    plot.lines.forEach(([, column], index) => {
      const [line, area] = trace(all, series, column, scale.y);
      attr(plot.paths[index], 'd', line);
      if (plot.areas) attr(plot.areas[index], 'd', area);
    });
    const peaks = plot.lines.map(([name], n) => `${name} ${plot.format(tops[n][1])}`);
    put(plot.peak, `most: ${peaks.join(', ')}`);
  }
  legends();
}

function drawScale(plot, { y, marks }) {
  attr(plot.grid, 'd', marks.map((mark) => `M0 ${y(mark).toFixed(1)}H${WIDE}`).join(''));
  keep(plot.scale, marks, (mark) => mark, () => el('span'), (label, mark) => {
    label.style.top = `${y(mark)}%`;
    put(label, plot.axis(mark));
  });
}
