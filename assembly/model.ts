// The model and its image: header | run before | runs ended | lead levels | weights of next | biases | weights of reach | lines. In: a capacity in bytes. Out: addresses, checksum.
// The image is this memory byte for byte and holds no address, so loading is a copy.
// Header, u32 each: magic, format, image bytes, lines, observed runs, observed executions, checksum low, checksum high.

import { HEADER_BYTES, LINE_BYTES, MODEL } from "./layout";
import { biasBytes, biasInit } from "./bias";
import { LEAD_LEVEL_BYTES, leadInit, leadReset } from "./lead";
import { nextInit, nextReset, nextWeightBytes } from "./next";
import { reachInit, reachReset, reachWeightBytes } from "./reach";
import { RUN_BEFORE_BYTES, runBeforeInit, runBeforeReset } from "./run-before";
import { RUN_ENDED_BYTES, runEndedInit, runEndedReset } from "./run-ended";
import { tableInit } from "./table";

/** "FCE1" read as little-endian u32. */
const MAGIC: u32 = 0x31454346;
export const FORMAT: u32 = 5;
const PAGE_BYTES: usize = 65536;

let bytes: usize = 0;
let lines: u32 = 0;

/** Weight sets by last task and bias table size: in a small model most bytes must stay lines. */
const SMALL_BYTES_MAX: usize = 2 << 20;
const DEFAULT_BYTES_MAX: usize = 16 << 20;

/** Grows memory once and lays out an empty model of exactly `capacityBytes`; false where memory is refused or too small. */
export function modelCreate(capacityBytes: usize, knownAfterMs: f64): bool {
  const isSmall = capacityBytes <= SMALL_BYTES_MAX;
  const isDefault = !isSmall && capacityBytes <= DEFAULT_BYTES_MAX;
  const lastSets = isSmall ? 16 : isDefault ? 64 : 256;
  const biasBits = isSmall ? 12 : isDefault ? 14 : 16;
  // A set of weights is five cache lines, the biases of a key are one.
  const nextAt = aligned(HEADER_BYTES + RUN_BEFORE_BYTES + RUN_ENDED_BYTES + LEAD_LEVEL_BYTES);
  const biasAt = aligned(nextAt + nextWeightBytes(lastSets));
  const reachAt = biasAt + biasBytes(biasBits);
  // Pairs of lines are 128 bytes.
  const linesAt = aligned(reachAt + reachWeightBytes(lastSets));
  if (capacityBytes < linesAt + 2 * LINE_BYTES) return false;
  const pages = <i32>((MODEL + capacityBytes + PAGE_BYTES - 1) / PAGE_BYTES) - memory.size();
  if (pages > 0 && memory.grow(pages) < 0) return false;
  bytes = capacityBytes;
  lines = <u32>((capacityBytes - linesAt) / LINE_BYTES) & ~1;
  runBeforeInit(MODEL + HEADER_BYTES);
  runEndedInit(MODEL + HEADER_BYTES + RUN_BEFORE_BYTES);
  leadInit(MODEL + HEADER_BYTES + RUN_BEFORE_BYTES + RUN_ENDED_BYTES);
  nextInit(MODEL + nextAt, lastSets);
  biasInit(MODEL + biasAt, biasBits);
  reachInit(MODEL + reachAt, lastSets);
  tableInit(MODEL + linesAt, lines);
  memory.fill(MODEL, 0, bytes);
  runBeforeReset(knownAfterMs);
  runEndedReset();
  leadReset();
  nextReset();
  reachReset();
  store<u32>(MODEL, MAGIC);
  store<u32>(MODEL, FORMAT, 4);
  store<u32>(MODEL, <u32>bytes, 8);
  store<u32>(MODEL, lines, 12);
  return true;
}

// @ts-ignore: decorator
@inline
function aligned(address: usize): usize {
  return (address + 127) & ~127;
}

export function modelCount(executions: u32): void {
  store<u32>(MODEL, load<u32>(MODEL, 16) + 1, 16);
  store<u32>(MODEL, load<u32>(MODEL, 20) + executions, 20);
}

/** Writes the checksum; the image is then [MODEL, MODEL + image bytes). */
export function modelSeal(): void {
  store<u64>(MODEL, modelChecksum(), 24);
}

/** Checksum of everything but itself: four lanes of multiply and rotate, folded. Source: the shape of xxHash64 (Y. Collet). */
export function modelChecksum(): u64 {
  let a: u64 = 0x9e3779b185ebca87;
  let b: u64 = 0xc2b2ae3d27d4eb4f;
  let c: u64 = 0x165667b19e3779f9;
  let d: u64 = 0x85ebca77c2b2ae63;
  a = lane(a, load<u64>(MODEL));
  b = lane(b, load<u64>(MODEL, 8));
  c = lane(c, load<u64>(MODEL, 16));
  const end = MODEL + (bytes & ~31);
  for (let p: usize = MODEL + 32; p < end; p += 32) {
    a = lane(a, load<u64>(p));
    b = lane(b, load<u64>(p, 8));
    c = lane(c, load<u64>(p, 16));
    d = lane(d, load<u64>(p, 24));
  }
  let h = rotl(a, 1) ^ rotl(b, 7) ^ rotl(c, 12) ^ rotl(d, 18);
  h = (h ^ (h >> 33)) * 0xff51afd7ed558ccd;
  return h ^ (h >> 33);
}

// @ts-ignore: decorator
@inline
function lane(sum: u64, word: u64): u64 {
  return rotl(sum + word * 0xc2b2ae3d27d4eb4f, 31) * 0x9e3779b185ebca87;
}

export function modelBytes(): usize {
  return bytes;
}

export function modelLines(): u32 {
  return lines;
}
