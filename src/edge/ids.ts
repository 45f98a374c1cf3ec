// Ids that sort by time: 9 characters of ms since the epoch in base 36, 8 of the isolate, then a counter.
// A plan makes dozens per request; this costs one short string each, where random UUIDs cost a call into the runtime.

const TIME_CHARACTERS = 9;
const ISOLATE_BYTES = 5;

let isolate: string | null = null;
let made = 0;

/** Unique over isolates (40 random bits per isolate, then a counter), 21 characters or more. */
export function newId(nowMs: number): string {
  // Not at module scope: workerd gives no randomness there.
  isolate ??= Array.from(crypto.getRandomValues(new Uint8Array(ISOLATE_BYTES)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
  made++;
  return `${timePrefix(nowMs)}${isolate}${made.toString(36).padStart(4, "0")}`;
}

/** Every id made before the instant sorts below it. */
export function timePrefix(ms: number): string {
  return Math.floor(ms).toString(36).padStart(TIME_CHARACTERS, "0");
}

/** When an id was made, ms since the epoch; null: it is none. */
export function timeOf(id: string): number | null {
  const time = id.slice(0, TIME_CHARACTERS);
  return /^[0-9a-z]{9}$/.test(time) ? Number.parseInt(time, 36) : null;
}
