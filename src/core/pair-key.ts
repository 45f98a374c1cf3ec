// A pair of task names as the key of a map. In: both. Out: one string, a tab between them: names hold no control characters (records.ts).
// The same string object each time: of one that is made anew, every look into a map copies its parts together and hashes them first.

/** Pairs whose string is kept: those of the busiest workspaces of an isolate. Beyond, all are made anew once. */
const KEYS_MAX = 32_768;

const keys = new Map<string, Map<string, string>>();
let count = 0;

export function pairKey(first: string, second: string): string {
  const known = keys.get(first)?.get(second);
  return known ?? keep(first, second);
}

function keep(first: string, second: string): string {
  if (++count > KEYS_MAX) {
    keys.clear();
    count = 1;
  }
  const ofFirst = keys.get(first) ?? new Map<string, string>();
  const key = `${first}\t${second}`;
  keys.set(first, ofFirst.set(second, key));
  return key;
}
