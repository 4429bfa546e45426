// The end of the machine's log. Lines from before a restart stay, with a line between.

const LINES_KEPT = 1000;
const LINES_SHOWN = 300;
const RANKS = ['ERROR', 'WARN', 'INFO', 'DEBUG', 'TRACE'];

const log = {
  lines: [],
  next: 0,
  severe: [], // when lines of level ERROR were heard of
  rank: 2,
  needle: '',
  recent: () => log.severe.filter((at) => nowMs() - at < MINUTE_MS).length,
};

function isShown({ level, target, message }) {
  if (level === '') return true;
  const rank = RANKS.indexOf(level);
  return (rank < 0 || rank <= log.rank)
    && (!log.needle || `${target} ${message}`.toLowerCase().includes(log.needle));
}

function lineItem(line) {
  const item = el('li');
  if (line.level === '') {
    item.className = 'break';
    item.textContent = line.message;
    return item;
  }
  const seconds = (line.us / 1e6).toFixed(6);
  const isDated = model.startedAt !== null;
  const when = el('time', '', isDated ? clock(model.startedAt + line.us / 1000) : seconds);
  when.title = `${seconds} s after the start`;
  const level = el('b', `level${RANKS.indexOf(line.level)}`, clip(line.level));
  const message = String(line.message ?? '');
  const text = message.length > 2000 ? `${message.slice(0, 2000)}…` : message;
  const target = el('span', 'muted', clip(line.target));
  item.append(when, ' ', level, ' ', target, ' ', el('span', 'text', text));
  return item;
}

function append(lines) {
  const view = $('log');
  const isAtEnd = view.scrollHeight - view.scrollTop - view.clientHeight < 30;
  const few = lines.filter(isShown).slice(-LINES_SHOWN);
  view.append(...few.map(lineItem));
  const most = isAtEnd ? LINES_SHOWN : LINES_KEPT;
  while (view.childElementCount > most) view.firstChild.remove();
  if (isAtEnd && few.length) view.scrollTop = view.scrollHeight;
  const hidden = log.lines.filter(isShown).length - view.childElementCount;
  const none = view.childElementCount ? '' : 'no such line';
  put($('log-note'), hidden > 0 ? `${plural(hidden, 'earlier line')} not shown` : none);
}

function refilter() {
  $('log').replaceChildren();
  append(log.lines);
}

function note(message) {
  log.lines.push({ level: '', message });
  append(log.lines.slice(-1));
}

function takeLog(answer, isFirst) {
  if (answer.next < log.next) {
    log.next = 0; // It has started again since; all of its lines come with the next answer.
    return;
  }
  log.next = answer.next;
  const lines = list(answer.lines);
  if (answer.dropped > 0 && !isFirst) {
    note(`${plural(answer.dropped, 'line')} lost before they were read`);
  }
  const severe = isFirst ? [] : lines.filter((line) => line.level === 'ERROR');
  log.severe = [...log.severe, ...severe.map(nowMs)].slice(-LINES_KEPT);
  log.lines = [...log.lines, ...lines].slice(-LINES_KEPT);
  append(lines);
}
