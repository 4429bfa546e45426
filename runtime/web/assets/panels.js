// What the machine has, and what each part of it does.

const [TREE_MAX, DRIVES_MAX, CORES_MAX, POLLERS_MAX, HOSTS_MAX, SMALL_MAX] = [32, 12, 64, 8, 12, 8];

const joined = (parts, by = ' · ') => parts.filter(Boolean).join(by);
const few = (parts, max, by = ', ') => joined(
  [...parts.slice(0, max), parts.length > max && `${parts.length - max} more`], by);
const trimmed = (text) => text && String(text).trim();

// Drives with their bdevs, and what stands on those, each below the first of its bases.
function tree(state) {
  const bdevs = list(state.bdevs);
  const above = new Map();
  for (const bdev of bdevs) {
    for (const base of list(bdev.bases)) above.set(base, (above.get(base) || []).concat(bdev));
  }
  const all = named(bdevs);
  const found = [];
  const seen = new Set();
  const visit = (bdev, depth, beneath) => {
    const isSeen = seen.has(bdev.name);
    const key = `${beneath}/${bdev.name}`;
    seen.add(bdev.name);
    found.push({ key, beneath, bdev, depth, isSeen });
    if (!isSeen) for (const upper of above.get(bdev.name) || []) visit(upper, depth + 1, key);
  };
  for (const drive of list(state.drives)) {
    found.push({ key: drive.name, drive, depth: 0 });
    for (const name of list(drive.bdevs)) if (all.has(name)) visit(all.get(name), 1, drive.name);
  }
  for (const bdev of bdevs) {
    const isRoot = !list(bdev.bases).some((base) => all.has(base));
    if (isRoot && !seen.has(bdev.name)) visit(bdev, 0, '');
  }
  return found;
}

const activity = ({ bdev, drive }) => (bdev ? [bdev.name] : list(drive.bdevs))
  .reduce((sum, name) => sum + (model.bdevs.get(name)?.busy || 0), 0);

function storage({ state }) {
  const all = tree(state);
  const chosen = busiest('storage', all, TREE_MAX, (row) => row.key, activity);
  const keys = new Set(chosen.map((row) => row.key));
  // What a row stands on is shown with it.
  for (const row of [...all].reverse()) if (keys.has(row.key)) keys.add(row.beneath);
  const part = all.filter((row) => keys.has(row.key));
  extent('storage', all, part);
  rows('storage', part, (row) => row.key, (row, { drive, bdev, depth, isSeen }) => {
    attr(row, 'class', `depth${Math.min(depth, 5)}`);
    if (drive) {
      const state = drive.state !== 'enabled' && drive.state;
      return fill(row, drive.name, joined([trimmed(drive.model), drive.address, state]), []);
    }
    const bases = list(bdev.bases);
    const over = bases.length > 1 && `over ${few(bases, 8)}`;
    if (isSeen) return fill(row, bdev.name, joined([over, 'listed before']), []);
    const { row: at, errors: n } = model.bdevs.get(bdev.name);
    return fill(row, bdev.name, joined([bdev.product, bytes(bdev.blocks * bdev.block_size), over]),
      [count(at[0]), count(at[1]), rate(at[2]), rate(at[3]), time(at[5]), time(at[8]),
        count(bdev.queue_depth), count(n)]);
  });
}

function health({ state }) {
  const drives = list(state.drives);
  const part = busiest('health', drives, DRIVES_MAX, (drive) => drive.name,
    (drive) => driveFindings(drive).length);
  extent('health', drives, part);
  rows('health', part, (drive) => drive.name, (row, drive) => {
    attr(row, 'data-level', driveFindings(drive)[0]?.level || '');
    const smart = drive.health || {};
    const unit = (format, name) => (known(smart[name]) ? format(smart[name]) : DASH);
    const share = (n) => `${n}${NBSP}%`;
    const units = (n) => bytes(n * 512000);
    fill(row, drive.name, joined([drive.model, drive.serial, drive.firmware].map(trimmed)), [
      drive.health ? smartWarnings(smart).join(', ') || 'good' : 'not known',
      unit((n) => (n ? `${n - 273}${NBSP}°C` : DASH), 'temperature_k'),
      unit(share, 'available_spare'), unit(share, 'percentage_used'), count(smart.media_errors),
      count(smart.unsafe_shutdowns), unit((n) => `${count(n)}${NBSP}h`, 'power_on_hours'),
      unit(units, 'data_units_read'), unit(units, 'data_units_written')]);
  });
}

// Every controller with its queues' sums: what a host's connection is to the operator.
function connections(state) {
  const sum = (values) => (values.some(known)
    ? values.reduce((all, n) => all + (n || 0), 0) : null);
  return list(state?.subsystems).flatMap(({ nqn, hosts }) => list(hosts).map((host) => {
    const queues = list(host.queues);
    return { nqn, host, queues, key: JSON.stringify([nqn, host.hostnqn, host.cntlid]),
      commands: sum(queues.map((queue) => queue.commands)),
      inFlight: sum(queues.map((queue) => queue.in_flight)) };
  }));
}

function hosts({ state, before, seconds }) {
  const old = by(connections(before), (one) => one.key);
  const all = connections(state);
  for (const one of all) one.rate = per(one.commands, old.get(one.key)?.commands, seconds);
  const part = busiest('hosts', all, HOSTS_MAX, (one) => one.key,
    (one) => one.rate ?? one.inFlight ?? 0);
  extent('hosts', all, part);
  const at = ({ address, port, ana }) => joined(
    [`${address}:${port}`, ana !== 'optimized' && ana], ' ');
  items('subsystems', list(state.subsystems), (one) => [one.nqn, joined([
    one.type !== 'NVMe' && one.type,
    few(list(one.namespaces).map(({ nsid, bdev }) => `${nsid}: ${bdev}`), 6),
    few(list(one.listeners).map(at), 4) || 'no listener',
    plural(list(one.hosts).length, 'controller')])]);
  rows('hosts', part, (one) => one.key, (row, { host, nqn, queues, rate: commands, inFlight }) => {
    const peers = new Set(queues.map(({ peer }) => String(peer ?? '').replace(/:\d+$/, '')));
    const cores = new Set(queues.map(({ core }) => core));
    fill(row, host.hostnqn, `from ${few([...peers], 3)} in ${nqn}`, [count(host.cntlid),
      count(queues.length), few([...cores].sort((a, b) => a - b).map(String), 6),
      brief(commands), count(inFlight)]);
  });
}

function cores({ state, before, seconds }) {
  const old = by(before?.cores, (core) => core.core);
  const all = list(state.cores).map((core) => (
    { core, busy: per(core.busy_ns, old.get(core.core)?.busy_ns, seconds * 1e9) }));
  const part = busiest('cores', all, CORES_MAX, (one) => one.core.core, (one) => one.busy || 0);
  extent('cores', all, part);
  attr($('cores'), 'class', part.length > 8 ? 'dense' : '');
  keep($('cores'), part, (one) => one.core.core, meter, (item, { core, busy }) => {
    fillMeter(item, core.core, busy, percent(busy), '');
  });
  pollers(all, old, seconds);
  return before ? all.reduce((sum, one) => sum + (one.busy || 0), 0) / all.length : null;
}

// The time that pollers find work in is sampled: only over a while is it to be trusted.
const WHILE = 30;
let past = [];

function pollers(all, old, seconds) {
  const sums = new Map();
  for (const { core } of all) {
    const was = named(old.get(core.core)?.pollers);
    for (const { name, busy_ns: busy, runs } of list(core.pollers)) {
      const sum = sums.get(name) || { name, busy: 0, runs: 0 };
      sum.busy += busy;
      sum.runs += per(runs, was.get(name)?.runs, seconds) || 0;
      sums.set(name, sum);
    }
  }
  const sorted = [...sums.values()];
  const now = new Map(sorted.map(({ name, busy }) => [name, busy]));
  past = [...(old.size ? past.slice(-WHILE) : []), now];
  for (const sum of sorted) sum.busy = grown(sum.busy, past[0].get(sum.name)) || 0;
  const total = sorted.reduce((sum, { busy }) => sum + busy, 0);
  const part = busiest('pollers', sorted, POLLERS_MAX, (one) => one.name, (one) => one.busy);
  rows('pollers', part, (one) => one.name, (row, { name, busy, runs }) => {
    fill(row, name, '', [total ? percent(busy / total) : DASH, old.size ? brief(runs) : DASH]);
  });
}

function memory({ state: { memory: areas } }) {
  const all = list(areas?.dma).map((dma) => ({ name: `DMA ${dma.core}`, ...dma }));
  const part = busiest('memory', all, SMALL_MAX, (one) => one.name, (one) => one.used / one.size);
  extent('memory', all, part);
  const heap = areas?.heap ? [{ name: 'Heap', ...areas.heap }] : [];
  keep($('memory'), [...heap, ...part], (one) => one.name, meter, (item, one) => {
    const { name, size, used, peak } = one;
    const most = known(peak) ? `, at most ${bytes(peak)}` : '';
    fillMeter(item, name, used / size, percent(used / size),
      `${bytes(used)} of ${bytes(size)}${most}`);
  });
}

function network({ state, before, seconds }) {
  const old = named(before?.network);
  const flow = (card, way) => [['bytes', rate], ['frames', brief]].map(([what, format]) => format(
    per(card[`${way}_${what}`], old.get(card.name)?.[`${way}_${what}`], seconds))).join(', ');
  const cards = list(state.network).map((card) => [card.name,
    few(list(card.addresses), 4) || 'no address',
    `in ${flow(card, 'rx')} frames/s`, `out ${flow(card, 'tx')} frames/s`,
    joined([card.link === false ? 'no link' : card.link && 'link up', card.mac, `MTU ${card.mtu}`,
      `${count((card.rx_dropped || 0) + (card.tx_dropped || 0))} dropped`])]);
  const tcp = Object.entries(state.tcp || {}).filter(([, value]) => known(value))
    .map(([name, value]) => `${count(value)} ${name.replace(/_/g, ' ')}`);
  items('network', [...cards, ['TCP', few(tcp, 6, ' · ')]], (parts) => parts);
}

function errors({ state }) {
  const all = [...wrongs(state)].filter(([, n]) => n > 0)
    .sort((a, b) => lastMinute(b[0]) - lastMinute(a[0]) || b[1] - a[1]);
  const part = all.slice(0, 2 * SMALL_MAX);
  extent('errors', all, part);
  rows('errors', part, ([kind]) => kind, (row, [kind, n]) => {
    attr(row, 'data-level', lastMinute(kind) ? 'warn' : '');
    fill(row, kind, '', [count(lastMinute(kind)), count(n)]);
  });
}
