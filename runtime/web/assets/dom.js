// Text from the machine is put in as text, never as markup.

const $ = (id) => document.getElementById(id);

function el(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function put(node, text) {
  const wanted = clip(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

function attr(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// Keeps one child of `parent` for each item, in their order, and changes only what has changed.
function keep(parent, items, key, make, update) {
  const old = parent.kept || new Map();
  parent.kept = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const name = key(item);
    if (parent.kept.has(name)) continue;
    const node = old.get(name) || make(item);
    old.delete(name);
    parent.kept.set(name, node);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
    update(node, item);
  }
  for (const node of old.values()) node.remove();
}

// Rows of a table: a head with a name and what it is, and cells in the order of its columns.
function rows(id, items, key, update) {
  const table = $(id);
  const labels = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent);
  const make = () => {
    const row = el('tr');
    const head = el('th');
    head.scope = 'row';
    head.append(el('span', 'name'), ' ', el('span', 'what'));
    row.append(head, ...labels.map((label) => {
      const cell = el('td');
      cell.dataset.label = label;
      return cell;
    }));
    return row;
  };
  table.hidden = !items.length;
  keep(table.tBodies[0], items, key, make, update);
}

function fill(row, name, what, values) {
  put(row.querySelector('.name'), name);
  put(row.querySelector('.what'), what);
  [...row.cells].slice(1).forEach((cell, index) => put(cell, values[index]));
}

// The busiest of many, chosen anew every ten seconds so that rows do not jump, in their own order.
const chosen = new Map();
function busiest(what, items, max, key, busy) {
  if (items.length <= max) return items;
  const before = chosen.get(what);
  let keys = before?.keys;
  if (!keys || performance.now() - before.at > 10000) {
    const order = items.map((item) => [key(item), busy(item)]).sort((a, b) => b[1] - a[1]);
    keys = new Set(order.slice(0, max).map(([name]) => name));
    // Where nothing is known yet, it is chosen again at once.
    if (order[0][1]) chosen.set(what, { keys, at: performance.now() });
  }
  return items.filter((item) => keys.has(key(item)));
}

// Says how many there are if not all of them are shown.
const extent = (id, all, part) => put($(`${id}-note`), all.length > part.length
  ? `the ${part.length} of ${all.length} that matter most` : all.length ? '' : 'none');

// A list of names, each with lines about it.
function items(id, all, parts) {
  const key = (one) => parts(one)[0];
  keep($(id), all.slice(0, 8), key, () => el('li'), (item, one) => {
    parts(one).forEach((part, index) => put(item.children[index]
      || item.appendChild(el(index ? 'span' : 'b', index ? 'what' : '')), part));
  });
}

// A labelled bar: how much of something is in use.
function meter() {
  const item = el('li', 'meter');
  const track = el('span', 'track');
  track.append(el('span', 'level'));
  track.setAttribute('aria-hidden', 'true');
  item.append(el('span', 'name'), track, el('span', 'value'), ' ', el('span', 'what'));
  return item;
}

function fillMeter(item, name, share, value, what) {
  put(item.querySelector('.name'), name);
  put(item.querySelector('.value'), value);
  put(item.querySelector('.what'), what || '');
  const width = `${(Math.min(1, Math.max(0, share || 0)) * 100).toFixed(1)}%`;
  const level = item.querySelector('.level');
  if (level.style.width !== width) level.style.width = width;
  item.classList.toggle('full', share > 0.9);
}
