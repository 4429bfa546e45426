// What is wrong, worst first.

const SMART = ['spare low', 'temperature', 'degraded', 'read only', 'backup failed',
  'memory unreliable'];
const LEVELS = ['bad', 'warn', 'note'];
const FINDINGS_MAX = 12;

const found = (level, text) => ({ level, text });

const smartWarnings = (health) => SMART.filter((_, bit) => (health.critical_warning >> bit) & 1);

function driveFindings(drive) {
  const { name, health } = drive;
  const all = [];
  if (drive.state !== 'enabled') {
    all.push(found(drive.state === 'failed' ? 'bad' : 'warn', `${name} is ${drive.state}`));
  }
  if (!health) return all;
  for (const warning of smartWarnings(health)) all.push(found('bad', `${name} warns: ${warning}`));
  const isSpareLow = health.available_spare < health.spare_threshold;
  if (isSpareLow && !(health.critical_warning & 1)) {
    all.push(found('bad', `${name}: ${health.available_spare} % spare left`));
  }
  if (health.percentage_used >= 90) {
    const level = health.percentage_used >= 100 ? 'bad' : 'warn';
    all.push(found(level, `${name}: ${health.percentage_used} % of its rated life is used`));
  }
  if (health.media_errors > 0) {
    all.push(found('warn', `${name}: ${plural(health.media_errors, 'media error')} in its life`));
  }
  return all;
}

function networkFindings(cards) {
  const down = cards.filter((card) => card.link === false);
  const all = down.map((card) => found('bad', `${card.name} has no link`));
  const bare = cards.filter((card) => card.link !== false && !list(card.addresses).length);
  const level = bare.length === cards.length ? 'bad' : 'warn';
  return all.concat(bare.map((card) => found(level, `${card.name} has no address`)));
}

function memoryFindings(memory) {
  const areas = list(memory?.dma).map((dma) => [`DMA memory of core ${dma.core}`, dma]);
  if (memory?.heap) areas.unshift(['The heap', memory.heap]);
  return areas.filter(([, area]) => area.size && area.used / area.size > 0.95)
    .map(([what, area]) => found('warn', `${what} is ${percent(area.used / area.size)} used`));
}

const risenFindings = () => [...model.risen.keys()]
  .map((name) => found('warn', `${name}: ${count(lastMinute(name))} in the last minute`));

function findings(state) {
  const drives = list(state.drives);
  const all = [
    ...drives.flatMap(driveFindings),
    ...networkFindings(list(state.network)),
    ...memoryFindings(state.memory),
    ...risenFindings(),
  ];
  const severe = log.recent('ERROR');
  if (severe) all.push(found('bad', `${plural(severe, 'line')} of level ERROR in the last minute`));
  if (state.left_out) {
    all.push(found('note', `${count(state.left_out)} bdevs, subsystems or hosts are left out`));
  }
  if (!list(state.bdevs).length) all.push(found('note', 'there are no drives or bdevs'));
  return all.sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level));
}

function sentenceOf(all) {
  const [bad, warn] = LEVELS.map((level) => all.filter((one) => one.level === level).length);
  const parts = [bad && plural(bad, 'fault'), warn && plural(warn, 'warning')].filter(Boolean);
  return parts.join(', ') || 'All is well';
}
