// Snapshots become rates: every counter is compared with what it was one snapshot before.

const KEPT = 900; // samples of history
const SERIES_MAX = 256; // bdevs whose history is kept
const MINUTE_MS = 60000;
const SHARES = [0.5, 0.99, 0.999];
const ALL = ''; // the name of the sum over the tops of all stacks

// Columns of a series: read and write IOPS, bytes per second, then percentiles, read and write.
const COLUMNS = 10;

// How much a counter grew; unknown for what is new or has started again.
const grown = (now, before) => (known(now) && known(before) && now >= before ? now - before : null);
const per = (now, before, seconds) => {
  const more = grown(now, before);
  return more === null ? null : more / seconds;
};
const by = (items, key) => new Map(list(items).map((item) => [key(item), item]));
const named = (items) => by(items, (item) => item.name);

// What was counted between two cumulative histograms, added to `into` by the bucket's upper end.
function addHistogram(into, now, before) {
  const old = new Map(list(before));
  for (const [upper, n] of list(now)) {
    const more = n - (old.get(upper) || 0);
    if (more > 0) into.set(upper, (into.get(upper) || 0) + more);
  }
}

// Upper ends of the buckets that hold the percentiles: no latency is made to look better.
function percentiles(histogram) {
  const sorted = [...histogram].sort((a, b) => a[0] - b[0]);
  const total = sorted.reduce((sum, [, n]) => sum + n, 0);
  return SHARES.map((share) => {
    let left = total * share;
    const found = sorted.find(([, n]) => (left -= n) <= 1e-9);
    return total && found ? found[0] : NaN;
  });
}

const model = {
  last: null, // snapshot
  lastAt: 0, // when, by this host's clock
  startedAt: null, // start of the machine, by its own clock, ms since 1970
  restarts: 0,
  times: new Float64Array(KEPT),
  taken: 0,
  series: new Map(),
  bdevs: new Map(), // rates by name
  risen: new Map(), // what rose: [[when, by how much]] by name
};

const slotOf = (sample) => sample % KEPT;

function seriesOf(name) {
  const found = model.series.get(name);
  if (found || model.series.size > SERIES_MAX) return found;
  const made = new Float32Array(KEPT * COLUMNS).fill(NaN);
  model.series.set(name, made);
  return made;
}

// Opens the next slot of every series, with nothing in it.
function openSlot(at) {
  const slot = slotOf(model.taken);
  model.times[slot] = at;
  model.taken += 1;
  for (const series of model.series.values()) {
    series.fill(NaN, slot * COLUMNS, (slot + 1) * COLUMNS);
  }
  return slot;
}

function noteRise(name, more, at) {
  if (!more) return;
  const rises = model.risen.get(name) || [];
  rises.push([at, more]);
  model.risen.set(name, rises);
}

// By how much something rose within the last minute.
const lastMinute = (name) => (model.risen.get(name) || []).reduce((sum, [, more]) => sum + more, 0);

function forgetRises(at) {
  for (const [name, rises] of model.risen) {
    const recent = rises.filter(([when]) => at - when < MINUTE_MS);
    if (recent.length) model.risen.set(name, recent);
    else model.risen.delete(name);
  }
}

function bdevRates(now, before, seconds) {
  const rates = { errors: 0, histograms: [new Map(), new Map()] };
  rates.row = ['read', 'write'].flatMap((kind, index) => {
    if (before) addHistogram(rates.histograms[index], now.latency?.[kind], before.latency?.[kind]);
    return [[per(now[kind]?.ios, before?.[kind]?.ios, seconds),
      per(now[kind]?.bytes, before?.[kind]?.bytes, seconds)]];
  });
  const [[reads, readBytes], [writes, writeBytes]] = rates.row;
  rates.row = [reads, writes, readBytes, writeBytes,
    ...rates.histograms.flatMap(percentiles)];
  rates.busy = (readBytes || 0) + (writeBytes || 0) + (reads || 0) + (writes || 0);
  rates.errors = Object.values(now.errors || {}).reduce((sum, n) => sum + n, 0);
  return rates;
}

// The bdevs on which no other stands: what hosts see is the sum of these.
function tops(bdevs) {
  const beneath = new Set(bdevs.flatMap((bdev) => list(bdev.bases)));
  return bdevs.filter((bdev) => !beneath.has(bdev.name));
}

function sumOf(bdevs) {
  const rates = bdevs.map((bdev) => model.bdevs.get(bdev.name));
  const sum = (column) => rates.reduce((all, one) => all + (one.row[column] || 0), 0);
  const merged = [new Map(), new Map()];
  for (const one of rates) {
    one.histograms.forEach((histogram, index) => {
      for (const [upper, n] of histogram) {
        merged[index].set(upper, (merged[index].get(upper) || 0) + n);
      }
    });
  }
  return [...[0, 1, 2, 3].map(sum), ...merged.flatMap(percentiles)];
}

// All that went wrong, by what and where: what bdevs count by themselves is not counted again.
function wrongs(state) {
  const bdevs = list(state?.bdevs).flatMap(({ name, errors }) => Object.entries(errors || {})
    .map(([kind, n]) => [`${name}: ${kind}`, n, kind]));
  const kinds = new Set(bdevs.map(([, , kind]) => kind));
  const others = list(state?.errors).filter(({ kind }) => !kinds.has(kind));
  return new Map([...others.map(({ kind, count: n }) => [kind, n]), ...bdevs]);
}

function takeErrors(state, before, at) {
  if (!before) return;
  const old = wrongs(before);
  for (const [what, n] of wrongs(state)) noteRise(what, grown(n, old.get(what) || 0), at);
  const cards = named(before.network);
  for (const card of list(state.network)) {
    const old = cards.get(card.name);
    for (const [field, what] of [['rx_dropped', 'received'], ['tx_dropped', 'sent']]) {
      noteRise(`${card.name}: frames dropped when ${what}`, grown(card[field], old?.[field]), at);
    }
  }
}

// Takes one snapshot in, and gives it with the one before if the two can be compared: over a gap,
// in which nobody asked, there are no rates.
function take(state, at, isGap) {
  const restarted = model.last && state.now_ns < model.last.now_ns;
  if (restarted) {
    model.restarts += 1;
    model.risen.clear();
    model.startedAt = null;
  }
  if (model.startedAt === null && known(state.unix_s)) {
    model.startedAt = state.unix_s * 1000 - state.now_ns / 1e6;
  }
  const before = restarted || isGap ? null : model.last;
  const seconds = before ? (state.now_ns - before.now_ns) / 1e9 : 0;
  if (before && seconds < 0.05) return null;
  forgetRises(at);
  // What rose in a gap rose all the same.
  if (!restarted) takeErrors(state, model.last, at);
  takeBdevs(list(state.bdevs), before, seconds, openSlot(at));
  model.last = state;
  model.lastAt = at;
  return { state, before, seconds, at };
}

function takeBdevs(bdevs, before, seconds, slot) {
  const old = named(before?.bdevs);
  model.bdevs = new Map(bdevs.map((bdev) => [bdev.name,
    bdevRates(bdev, old.get(bdev.name), seconds)]));
  for (const name of model.series.keys()) {
    if (name !== ALL && !model.bdevs.has(name)) model.series.delete(name);
  }
  if (!before) return;
  seriesOf(ALL).set(sumOf(tops(bdevs)), slot * COLUMNS);
  for (const [name, rates] of model.bdevs) {
    const row = rates.row.map((value) => (value === null ? NaN : value));
    seriesOf(name)?.set(row, slot * COLUMNS);
  }
}
