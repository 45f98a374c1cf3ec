// Instants as logs write them → ms since the epoch. In: the text of a cell or attribute.

/** One day among the texts says it for all: 13/10/2012 cannot be the thirteenth month. */
export function isDayFirst(texts: Iterable<string>): boolean {
  for (const text of texts) if (Number(/^(\d{1,2})\/\d{1,2}\/\d{4}\b/.exec(text)?.[1] ?? 0) > MONTHS) return true;
  return false;
}

const MONTHS = 12;
const ZONE = /(?:Z|\b(?:UTC|GMT)|[+-]\d\d(?::?\d\d)?)$/i;
/** As most logs have it: Date.parse takes these as they are, in a fifth of the time. */
const ISO = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,3})?(Z|[+-]\d\d:\d\d)?$/;
const DATE_CHARS = 10;
/** 2012-10-09, 2012/10/9, 20121009. */
const YEAR_FIRST = /^(\d{4})([-/.]?)(\d\d?)\2(\d\d?)(?=\D|$)/;
const YEAR_LAST = /^(\d\d?)([-/.])(\d\d?)\2(\d{4})(?=\D|$)/;
/** What follows a date: T14:50, " 14:50:17.123", ", 14:50", ":11.02", "T145017", "2:50:17 PM". */
const CLOCK = /^(?:T|[\s:,]+)(\d\d?)[:.]?(\d\d)(?:[:.]?(\d\d)(?:[.,](\d+))?)?\s*([ap]m)?$/i;

/**
 * Numbers by their size are s, ms, µs or ns since the epoch; else a date, UTC where it names no zone. Null: neither. "" is unknown: 0.
 * `dayFirst`: how 09/10/2012 is meant; with dots or dashes the day is always first.
 */
export function instantOf(text: string, dayFirst = false): number | null {
  if (text === "") return 0;
  const iso = ISO.exec(text);
  if (iso !== null) return ofIso(text, iso[1]);
  if (/^-?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text)) return ofNumber(Number(text));
  const ms = ofDate(text, dayFirst) ?? Date.parse(ZONE.test(text) ? text : `${text} UTC`);
  return Number.isNaN(ms) ? null : ms;
}

function ofIso(text: string, zone: string | undefined): number | null {
  const joined = text[DATE_CHARS] === "T" ? text : `${text.slice(0, DATE_CHARS)}T${text.slice(DATE_CHARS + 1)}`;
  const ms = Date.parse(zone === undefined ? `${joined}Z` : joined);
  return Number.isNaN(ms) ? null : ms;
}

function ofNumber(value: number): number {
  if (Math.abs(value) >= 1e17) return value / 1e6;
  if (Math.abs(value) >= 1e14) return value / 1e3;
  if (Math.abs(value) >= 1e11) return value;
  return value * 1e3;
}

/** Null: of another shape than those above. NaN: of one of them, and no date. */
function ofDate(text: string, dayFirst: boolean): number | null {
  const dated = YEAR_FIRST.exec(text) ?? YEAR_LAST.exec(text);
  if (dated === null) return null;
  const [date, first = "", separator, second = "", third = ""] = dated;
  const isYearFirst = first.length === 4;
  const isMonthFirst =
    !isYearFirst && (Number(second) > MONTHS || (separator === "/" && !dayFirst && Number(first) <= MONTHS));
  const year = isYearFirst ? first : third;
  const month = isYearFirst ? second : isMonthFirst ? first : second;
  const day = isYearFirst ? third : isMonthFirst ? second : first;
  const rest = text.slice(date.length);
  const offset = offsetOf(/\d/.test(rest) ? (ZONE.exec(rest)?.[0] ?? "") : rest.trim());
  const clock = rest.replace(ZONE, "").trimEnd();
  const [told, hour = "0", minute = "00", secondOfMinute = "00", fraction = "0", half] = CLOCK.exec(clock) ?? [""];
  if (offset === null || told !== clock) return Number.NaN;
  const hours = half === undefined ? Number(hour) : (Number(hour) % 12) + (half.toLowerCase() === "pm" ? 12 : 0);
  const whole = `${year}-${two(month)}-${two(day)}T${two(hours)}:${minute}:${secondOfMinute}${offset}`;
  // Date.parse knows ms only.
  return Date.parse(whole) + Number(`0.${fraction}`) * 1000;
}

function two(part: string | number): string {
  return String(part).padStart(2, "0");
}

/** "+0100" as Date.parse wants it. Null: not a zone. */
function offsetOf(zone: string): string | null {
  if (zone === "" || /^(Z|UTC|GMT)$/i.test(zone)) return "Z";
  const [, sign, hours, minutes = "00"] = /^([+-])(\d\d)(?::?(\d\d))?$/.exec(zone) ?? [];
  return sign === undefined ? null : `${sign}${hours}:${minutes}`;
}

const UNITS_MS: Record<string, number> = { ns: 1e-6, us: 1e-3, ms: 1, s: 1e3, m: 6e4, min: 6e4, h: 3.6e6, d: 8.64e7 };
/** "1m 10s", "3.5 ms". */
const WITH_UNITS = /^(?:[\d.]+\s*(?:ns|us|ms|s|m|min|h|d)\s*)+$/i;
/** "1-02:03:04.5", as schedulers write it. */
const WITH_COLONS = /^(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d(?:\.\d+)?))?$/;

/** Unit that a column's name tells, or the unit itself, ms. Null: none. */
export function unitOf(name: string): number | null {
  const [, unit] =
    /(?:^|[^a-z]|duration|time|elapsed)(ns|us|ms|s|nanos|micros|millis|seconds|secs?)(?:econds)?\]?\)?$/i.exec(name) ??
    [];
  if (unit === undefined) return null;
  const short = unit.toLowerCase();
  return UNITS_MS[short] ?? UNITS_MS[{ nanos: "ns", micros: "us", millis: "ms" }[short] ?? "s"]!;
}

/** A duration, ms; a bare number in units of `unitMs`. Null: none, or of unknown unit. */
export function durationOf(text: string, unitMs: number | null): number | null {
  if (/^\d+(\.\d*)?(e[+-]?\d+)?$/i.test(text)) return unitMs === null ? null : Number(text) * unitMs;
  if (WITH_UNITS.test(text)) {
    let ms = 0;
    for (const [, count, unit] of text.matchAll(/([\d.]+)\s*([a-z]+)/gi))
      ms += Number(count) * UNITS_MS[unit!.toLowerCase()]!;
    return ms;
  }
  const [whole, days = "0", first, second, third] = WITH_COLONS.exec(text) ?? [];
  if (whole === undefined) return null;
  // Two parts are minutes and seconds.
  const [hours, minutes, seconds] =
    third === undefined ? [0, Number(first), Number(second)] : [Number(first), Number(second), Number(third)];
  return Number(days) * UNITS_MS.d! + hours * UNITS_MS.h! + minutes * UNITS_MS.m! + seconds * UNITS_MS.s!;
}
