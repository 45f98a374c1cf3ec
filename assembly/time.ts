// Buckets of times. In: milliseconds. Out: small integers for contexts; every input, NaN and infinity too, has a bucket.

/** Times are bucketed by octave of microseconds: traces differ by microseconds, cases by days. */
const US_PER_MS: f64 = 1000;
const EXPONENT_BIAS: u64 = 1022;

/** Octave of a duration: 0 for less than 1 µs, negative and NaN, else 1 + floor(log2 µs). Reads the exponent of the double. */
// @ts-ignore: decorator
@inline
export function octave(ms: f64): u64 {
  const us = ms * US_PER_MS;
  return us >= 1 ? (reinterpret<u64>(us) >> 52) - EXPONENT_BIAS : 0;
}

/** Half octave of a duration (the exponent and one bit of the mantissa): 0 for less than 1 µs, negative and NaN. */
// @ts-ignore: decorator
@inline
export function halfOctave(ms: f64): u64 {
  const us = ms * US_PER_MS;
  return us >= 1 ? reinterpret<u64>(us) >> 51 : 0;
}

/** Farthest that a time may be from the epoch, as in ECMAScript dates, ms: beyond it an hour has no meaning. */
const TIME_MS_MAX: f64 = 8.64e15;

// @ts-ignore: decorator
@inline
export function isTime(ms: f64): bool {
  return ms >= -TIME_MS_MAX && ms <= TIME_MS_MAX;
}

/** Index of the period that holds the time, modulo `periods`; only of times that isTime accepts. */
// @ts-ignore: decorator
@inline
export function periodOf(ms: f64, periodMs: f64, periods: i64): u64 {
  return <u64>(<i64>Math.floor(ms / periodMs) % periods);
}
