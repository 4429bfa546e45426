'use strict';
// Numbers as people read them: three digits that count, and a unit.

const DASH = '–';
const NBSP = '\u00a0';

const digits = (value) => (value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1)
  : value.toFixed(2));

function scaled(value, step, units) {
  let unit = 0;
  while (value >= step * 0.9995 && unit < units.length - 1) {
    value /= step;
    unit += 1;
  }
  const isWhole = value === 0 || (unit === 0 && Number.isInteger(value));
  const text = isWhole ? `${value}` : digits(value);
  return text + (units[unit] ? NBSP + units[unit] : '');
}

const known = (value) => typeof value === 'number' && Number.isFinite(value);
const list = (value) => (Array.isArray(value) ? value : []);
const shown = (format) => (value) => (known(value) ? format(value) : DASH);

const count = shown((value) => Math.round(value).toLocaleString('en-US'));
const COUNTS = ['', 'k', 'M', 'G', 'T'];
const SIZES = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
const rounded = (value) => (value < 10 ? Math.round(value * 10) / 10 : Math.round(value));
const brief = shown((value) => scaled(rounded(value), 1000, COUNTS));
const bytes = shown((value) => scaled(Math.round(value), 1024, SIZES));
const rate = shown((value) => `${bytes(value)}/s`);
const time = shown((ns) => scaled(ns, 1000, ['ns', 'µs', 'ms', 's']));
const percent = shown((share) => (share * 100).toFixed(share > 0 && share < 0.0995 ? 1 : 0)
  + `${NBSP}%`);

function period(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s}${NBSP}s`;
  if (s < 3600) return `${Math.floor(s / 60)}${NBSP}min ${s % 60}${NBSP}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}${NBSP}h ${Math.floor(s / 60) % 60}${NBSP}min`;
  return `${Math.floor(s / 86400)}${NBSP}d ${Math.floor(s / 3600) % 24}${NBSP}h`;
}

const clock = (ms) => new Date(ms).toLocaleTimeString('en-GB');
// The same without zeroes at the end.
const axis = (format) => (value) => format(value)
  .replace(/(\.\d*?)0+(?=\D|$)/, (all, kept) => (kept.length > 1 ? kept : ''));
const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many || `${one}s`}`;
const clip = (text) => {
  const whole = String(text ?? '');
  return whole.length > 300 ? `${whole.slice(0, 300)}…` : whole;
};
