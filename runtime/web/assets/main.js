// Asks once a second; waits longer where there is no answer, and not at all while nobody looks.

const PERIOD_MS = 1000;
const PATIENCE_MS = 5000;
const WAIT_MAX_MS = 15000;

const nowMs = () => performance.timeOrigin + performance.now();
const run = {
  timer: 0,
  failures: 0,
  restarts: 0,
  isAsking: false,
  isPaused: false,
  isCut: true, // nobody asked for a while
  nextAt: 0,
  why: '', // there is no answer
};

async function ask(path) {
  const canceller = new AbortController();
  const timer = setTimeout(() => canceller.abort(), PATIENCE_MS);
  try {
    const answer = await fetch(path, { cache: 'no-store', signal: canceller.signal });
    if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    return await answer.json();
  } finally {
    clearTimeout(timer);
  }
}

function later(ms) {
  clearTimeout(run.timer);
  run.nextAt = nowMs() + ms;
  if (!run.isPaused && !document.hidden) run.timer = setTimeout(poll, ms);
}

async function poll() {
  if (run.isAsking) return;
  run.isAsking = true;
  const began = nowMs();
  try {
    const state = await ask('api/state');
    const tick = take(state, nowMs(), run.isCut || run.failures > 2);
    run.isCut = false;
    if (tick && model.restarts !== run.restarts) restarted();
    const isFirst = log.next === 0;
    takeLog(await ask(`api/log?since=${log.next}`), isFirst);
    run.failures = 0;
    if (tick) show(tick);
    // A machine that takes long to answer is asked less often.
    const took = nowMs() - began;
    later(Math.max(PERIOD_MS - took, took, 50));
  } catch (error) {
    run.failures += 1;
    run.why = error.name === 'AbortError' ? 'it takes too long' : error.message;
    later(Math.min(PERIOD_MS * 2 ** (run.failures - 1), WAIT_MAX_MS));
    silent();
  } finally {
    run.isAsking = false;
  }
}

// Asks no more for a while, or again.
function halt(isLong) {
  run.isCut = true;
  if (isLong) clearTimeout(run.timer);
  else later(0);
}

function restarted() {
  run.restarts = model.restarts;
  log.next = 0;
  note(`The machine has started again, heard of at ${clock(nowMs())}`);
}

function verdict(level, sentence, aside) {
  attr($('glance'), 'data-level', level);
  put($('mark'), { good: '●', bad: '■', warn: '▲', note: '○' }[level]);
  put($('sentence'), sentence);
  put($('since'), aside);
  const title = `${sentence} – Basalt`;
  if (document.title !== title) document.title = title;
}

// There is no answer: says so, and since when; what was known stays, as of then.
function silent() {
  const since = model.lastAt ? `since ${clock(model.lastAt)}` : 'yet';
  const left = Math.max(0, Math.ceil((run.nextAt - nowMs()) / 1000));
  const wait = run.isPaused ? 'paused' : left ? `next try in ${left}${NBSP}s` : 'trying';
  verdict('bad', `No answer ${since}`, [run.why, wait].filter(Boolean).join('; '));
  $('retry').hidden = false;
  attr(document.body, 'class', 'silent');
}

function show(tick) {
  const { state } = tick;
  attr(document.body, 'class', '');
  $('retry').hidden = true;
  const all = findings(state);
  const few = all.slice(0, FINDINGS_MAX);
  if (all.length > few.length) few.push(found('note', `and ${all.length - few.length} more`));
  const { level } = all[0] || {};
  const restarts = plural(model.restarts, 'time');
  verdict(level && level !== 'note' ? level : 'good', sentenceOf(all),
    `up ${period(state.now_ns / 1e9)}${model.restarts ? `; started again ${restarts}` : ''}`);
  keep($('findings'), few, (one) => one.level + one.text, () => el('li'), (item, one) => {
    attr(item, 'data-level', one.level);
    put(item, one.text);
  });
  const where = { image: 'on its own machine', hosted: 'as a process' }[state.environment];
  put($('about'), joined([state.version, where], ' '));
  scopes(list(state.bdevs));
  const mean = cores(tick);
  for (const panel of [storage, health, hosts, memory, network, errors]) panel(tick);
  facts(state, mean);
  draw();
}

function facts(state, mean) {
  const hostsOf = list(state.subsystems).flatMap((one) => list(one.hosts));
  const links = hostsOf.reduce((sum, host) => sum + list(host.queues).length, 0);
  const heap = state.memory?.heap;
  const addresses = list(state.network).flatMap((card) => list(card.addresses));
  const items = [
    ['Cores busy', percent(mean), `of ${list(state.cores).length}`],
    ['Drives', count(list(state.drives).length), plural(list(state.bdevs).length, 'bdev')],
    ['Hosts', count(new Set(hostsOf.map((host) => host.hostnqn)).size), plural(links, 'queue')],
    ['Heap used', heap ? percent(heap.used / heap.size) : DASH, heap ? bytes(heap.used) : ''],
    ['Address', addresses[0] || (state.environment === 'hosted' ? 'the host’s' : 'none'), ''],
  ];
  keep($('facts'), items, ([name]) => name, () => {
    const item = el('div');
    const value = el('dd');
    value.append(el('b'), ' ', el('span', 'what'));
    item.append(el('dt'), value);
    return item;
  }, (item, [name, value, what]) => {
    put(item.firstChild, name);
    put(item.lastChild.firstChild, value);
    put(item.lastChild.lastChild, what);
  });
}

function scopes(bdevs) {
  if (!bdevs.some((bdev) => bdev.name === view.scope)) view.scope = ALL;
  const n = tops(bdevs).length;
  const names = bdevs.slice(0, SERIES_MAX).map(({ name }) => [name, name]);
  const items = [[ALL, `all stacks (${n})`], ...names];
  keep($('scope'), items, ([value]) => value, ([value]) => {
    const option = el('option');
    option.value = value;
    return option;
  }, (option, [, text]) => put(option, text));
  if ($('scope').value !== view.scope) $('scope').value = view.scope;
}

function setTheme(theme) {
  document.documentElement.style.colorScheme = theme || 'light dark';
}

const stored = {
  get() {
    try {
      return localStorage.getItem('theme') || '';
    } catch {
      return '';
    }
  },
  set(theme) {
    try {
      localStorage.setItem('theme', theme);
    } catch {
      // It lasts till the page is loaded again.
    }
  },
};

function listen() {
  const on = (id, event, act) => $(id).addEventListener(event, (happened) => act(happened.target));
  on('pause', 'click', (button) => {
    run.isPaused = !run.isPaused;
    attr(button, 'aria-pressed', run.isPaused);
    if (run.isPaused) put($('since'), `paused at ${clock(nowMs())}`);
    halt(run.isPaused);
  });
  on('retry', 'click', () => poll());
  on('theme', 'change', ({ value }) => { setTheme(value); stored.set(value); });
  on('scope', 'change', ({ value }) => { view.scope = value; draw(); });
  on('span', 'change', ({ value }) => { view.span = Number(value); draw(); });
  on('level', 'change', ({ value }) => { log.rank = RANKS.indexOf(value); refilter(); });
  on('needle', 'input', ({ value }) => { log.needle = value.toLowerCase(); refilter(); });
  document.addEventListener('visibilitychange', () => halt(document.hidden));
}

$('theme').value = stored.get();
setTheme($('theme').value);
build();
listen();
draw();
setInterval(() => run.failures && !document.hidden && silent(), PERIOD_MS);
poll();
