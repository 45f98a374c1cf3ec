// Four natural logarithms or exponentials at once. In: f32x4. Out: f32x4, relative error below 2e-6 in the ranges stated.
// Algorithm and coefficients: S. Moshier's Cephes `logf` and `expf`, as in J. Pommier's sse_mathfun, without the special cases:
// the callers keep arguments positive, finite and normal.

// Constants are vectors in memory, because engines build a splat of a number from three instructions each time it is met.
// `pmin` and `pmax` are one instruction, `min` and `max`, which must treat NaN and −0 alike everywhere, are eight.

const SQRT_HALF_BITS: i32 = 0x3f3504f3;
const LN: usize = memory.data<f32>([
  7.0376836292e-2, 7.0376836292e-2, 7.0376836292e-2, 7.0376836292e-2,
  -1.1514610310e-1, -1.1514610310e-1, -1.1514610310e-1, -1.1514610310e-1,
  1.1676998740e-1, 1.1676998740e-1, 1.1676998740e-1, 1.1676998740e-1,
  -1.2420140846e-1, -1.2420140846e-1, -1.2420140846e-1, -1.2420140846e-1,
  1.4249322787e-1, 1.4249322787e-1, 1.4249322787e-1, 1.4249322787e-1,
  -1.6668057665e-1, -1.6668057665e-1, -1.6668057665e-1, -1.6668057665e-1,
  2.0000714765e-1, 2.0000714765e-1, 2.0000714765e-1, 2.0000714765e-1,
  -2.4999993993e-1, -2.4999993993e-1, -2.4999993993e-1, -2.4999993993e-1,
  3.3333331174e-1, 3.3333331174e-1, 3.3333331174e-1, 3.3333331174e-1,
], 16);
const EXP: usize = memory.data<f32>([
  1.9875691500e-4, 1.9875691500e-4, 1.9875691500e-4, 1.9875691500e-4,
  1.3981999507e-3, 1.3981999507e-3, 1.3981999507e-3, 1.3981999507e-3,
  8.3334519073e-3, 8.3334519073e-3, 8.3334519073e-3, 8.3334519073e-3,
  4.1665795894e-2, 4.1665795894e-2, 4.1665795894e-2, 4.1665795894e-2,
  1.6666665459e-1, 1.6666665459e-1, 1.6666665459e-1, 1.6666665459e-1,
  5.0000001201e-1, 5.0000001201e-1, 5.0000001201e-1, 5.0000001201e-1,
], 16);
/**
 * ln 2 in two parts, log2 e, one, the range of exp4 (what lies outside is 0 or beyond any use here), and 1.5 · 2^23: adding it
 * leaves the nearest integer in the low bits of the mantissa.
 */
const MISC: usize = memory.data<f32>([
  0.693359375, 0.693359375, 0.693359375, 0.693359375,
  -2.12194440e-4, -2.12194440e-4, -2.12194440e-4, -2.12194440e-4,
  1.44269504088896341, 1.44269504088896341, 1.44269504088896341, 1.44269504088896341,
  1, 1, 1, 1,
  -87, -87, -87, -87,
  87, 87, 87, 87,
  12582912, 12582912, 12582912, 12582912,
], 16);
const LN2_HIGH: usize = 0;
const LN2_LOW: usize = 16;
const LOG2_E: usize = 32;
const ONE: usize = 48;
const EXP_MIN: usize = 64;
const EXP_MAX: usize = 80;
const ROUNDS: usize = 96;

// @ts-ignore: decorator
@inline
function fma(a: v128, b: v128, c: v128): v128 {
  return f32x4.add(f32x4.mul(a, b), c);
}

/** Natural logarithm of four positive normal numbers. */
// @ts-ignore: decorator
@inline
export function ln4(x: v128): v128 {
  const exponent = i32x4.shr_s(i32x4.sub(x, i32x4.splat(SQRT_HALF_BITS)), 23);
  const m = f32x4.sub(i32x4.sub(x, i32x4.shl(exponent, 23)), v128.load(MISC, ONE));
  const e = f32x4.convert_i32x4_s(exponent);
  const square = f32x4.mul(m, m);
  let y = v128.load(LN);
  y = fma(y, m, v128.load(LN, 16));
  y = fma(y, m, v128.load(LN, 32));
  y = fma(y, m, v128.load(LN, 48));
  y = fma(y, m, v128.load(LN, 64));
  y = fma(y, m, v128.load(LN, 80));
  y = fma(y, m, v128.load(LN, 96));
  y = fma(y, m, v128.load(LN, 112));
  y = fma(y, m, v128.load(LN, 128));
  y = f32x4.mul(f32x4.mul(y, m), square);
  y = fma(e, v128.load(MISC, LN2_LOW), y);
  y = f32x4.sub(y, f32x4.mul(square, f32x4.splat(0.5)));
  return fma(e, v128.load(MISC, LN2_HIGH), f32x4.add(m, y));
}

/** Exponential of four numbers, clamped to ±87. */
// @ts-ignore: decorator
@inline
export function exp4(value: v128): v128 {
  const x = f32x4.pmax(v128.load(MISC, EXP_MIN), f32x4.pmin(v128.load(MISC, EXP_MAX), value));
  const rounded = fma(x, v128.load(MISC, LOG2_E), v128.load(MISC, ROUNDS));
  const n = f32x4.sub(rounded, v128.load(MISC, ROUNDS));
  const r = f32x4.sub(f32x4.sub(x, f32x4.mul(n, v128.load(MISC, LN2_HIGH))), f32x4.mul(n, v128.load(MISC, LN2_LOW)));
  let y = v128.load(EXP);
  y = fma(y, r, v128.load(EXP, 16));
  y = fma(y, r, v128.load(EXP, 32));
  y = fma(y, r, v128.load(EXP, 48));
  y = fma(y, r, v128.load(EXP, 64));
  y = fma(y, r, v128.load(EXP, 80));
  y = f32x4.add(fma(y, f32x4.mul(r, r), r), v128.load(MISC, ONE));
  // 2^n: n, added to the exponent's bias, in the bits of the exponent. Higher bits of `rounded` leave at the top.
  const power = i32x4.add(i32x4.shl(rounded, 23), v128.load(MISC, ONE));
  return f32x4.mul(y, power);
}

// @ts-ignore: decorator
@inline
export function sum4(x: v128): f32 {
  return (
    f32x4.extract_lane(x, 0) + f32x4.extract_lane(x, 1) + (f32x4.extract_lane(x, 2) + f32x4.extract_lane(x, 3))
  );
}

/** The sums of four vectors, as lanes. */
// @ts-ignore: decorator
@inline
export function sums4(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7));
  const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 4, 1, 5), v128.shuffle<f32>(c, d, 2, 6, 3, 7));
  return f32x4.add(v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
}
