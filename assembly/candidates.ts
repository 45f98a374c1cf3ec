// The symbols that any context proposes for one question. In: symbols. Out: small consecutive indices and a score for each mixer.
// Algorithm: an open-addressed index, emptied by moving its generation on, so a question costs only what it proposes.

import { CANDIDATES_MAX } from "./layout";

export let candidates: i32 = 0;
export const CANDIDATE_SYMBOL: usize = memory.data(256 * 4, 64);
/** One f32x4 per candidate: a lane per mixer of layer 1. */
export const CANDIDATE_SCORES: usize = memory.data(256 * 16, 64);

/** Twice the candidates, so that a probe ends soon. An entry: generation << 32 | symbol << 8 | candidate. */
const INDEX_BITS: i32 = 9;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
const INDEX: usize = memory.data(512 * 8, 64);
const GENERATIONS: u32 = 1 << 24;
let generation: u32 = 0;

export function candidatesReset(): void {
  candidates = 0;
  if (++generation >= GENERATIONS) {
    memory.fill(INDEX, 0, 512 * 8);
    generation = 1;
  }
}

// @ts-ignore: decorator
@inline
function placeOf(symbol: u32): u32 {
  return (symbol * 0x9e3779b1) >> (32 - INDEX_BITS);
}

/** An entry of this question without its candidate. */
// @ts-ignore: decorator
@inline
function keyOf(symbol: u32): u64 {
  return (<u64>generation << 24) | <u64>symbol;
}

/** Index of the symbol among the candidates, added where it is new; -1 when there is no room. */
// @ts-ignore: decorator
@inline
export function candidateOf(symbol: u32): i32 {
  const key = keyOf(symbol);
  let place = placeOf(symbol);
  while (true) {
    const entry = load<u64>(INDEX + (<usize>place << 3));
    if (entry >> 8 == key) return <i32>(entry & 255);
    if (<u32>(entry >> 32) != generation) return add(symbol, place);
    place = (place + 1) & INDEX_MASK;
  }
}

function add(symbol: u32, place: u32): i32 {
  if (candidates >= CANDIDATES_MAX) return -1;
  const added = candidates++;
  store<u64>(INDEX + (<usize>place << 3), (keyOf(symbol) << 8) | <u64>added);
  store<u32>(CANDIDATE_SYMBOL + (<usize>added << 2), symbol);
  v128.store(CANDIDATE_SCORES + (<usize>added << 4), f32x4.splat(0));
  return added;
}

/** Index of the symbol among the candidates, -1 where no context proposed it. */
export function candidateIfAny(symbol: u32): i32 {
  const key = keyOf(symbol);
  let place = placeOf(symbol);
  while (true) {
    const entry = load<u64>(INDEX + (<usize>place << 3));
    if (entry >> 8 == key) return <i32>(entry & 255);
    if (<u32>(entry >> 32) != generation) return -1;
    place = (place + 1) & INDEX_MASK;
  }
}
