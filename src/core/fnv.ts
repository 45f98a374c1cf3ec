/** FNV-1a over a text's UTF-16 units: 0 to 2³² − 1, the same everywhere and for ever. Its low bits are weak; `seed` makes it another hash. [G. Fowler, L. Noll, K. Vo] */
export function fnv1a(text: string, seed = 0): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** An id as a number in [0, 1), as if drawn and the same for the same id: what falls below a share of it is that share of all ids. */
export function uniformOf(id: string): number {
  let hash = fnv1a(id);
  // The last characters alone would decide the low bits: one more round spreads them.
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return ((hash ^ (hash >>> 12)) >>> 0) / 2 ** 32;
}
