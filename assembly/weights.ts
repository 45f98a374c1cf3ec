// Mixing weights that choose their own step. In: a gradient for each of four mixers. Out: their weights, moved.
// A weight is a value f32 and, in an array of its own that only learning touches, its sum of squared gradients f32.
// Step = rate · g / √(sum of g²): large while a weight is young, small when it is old, which did better than any fixed rate on
// every log.
// Source: AdaGrad (Duchi, Hazan, Singer, JMLR 2011), with a ceiling on the sum so that an old model still follows a change.

export const WEIGHT_BYTES: i32 = 4;
/** Sum that a new weight starts from: keeps its first steps near rate / √20. */
const SQUARES_INITIAL: f32 = 20;
const SQUARES_MAX: f32 = 1e5;

/** Bytes of so many weights, values and squares. */
export function weightsBytes(count: i32): usize {
  return <usize>(count * WEIGHT_BYTES * 2);
}

export function weightsReset(from: usize, count: i32, value: f32): void {
  const valueBytes = <usize>(count * WEIGHT_BYTES);
  for (let at = from; at < from + valueBytes; at += <usize>WEIGHT_BYTES) {
    store<f32>(at, value);
    store<f32>(at + valueBytes, SQUARES_INITIAL);
  }
}

/** The weights at four addresses, as lanes. */
// @ts-ignore: decorator
@inline
export function weightsLoad(a: usize, b: usize, c: usize, d: usize): v128 {
  return v128.load_lane<f32>(d, v128.load_lane<f32>(c, v128.load_lane<f32>(b, v128.load32_zero(a), 1), 2), 3);
}

// @ts-ignore: decorator
@inline
function weightsStore(a: usize, b: usize, c: usize, d: usize, lanes: v128): void {
  v128.store_lane<f32>(a, lanes, 0);
  v128.store_lane<f32>(b, lanes, 1);
  v128.store_lane<f32>(c, lanes, 2);
  v128.store_lane<f32>(d, lanes, 3);
}

/** Moves the weights at four addresses along their gradients; their squares lie `squares` bytes further on. */
// @ts-ignore: decorator
@inline
export function weightsLearn(a: usize, b: usize, c: usize, d: usize, squares: usize, gradient: v128, rate: f32): void {
  const sums = f32x4.pmin(
    f32x4.splat(SQUARES_MAX),
    f32x4.add(weightsLoad(a + squares, b + squares, c + squares, d + squares), f32x4.mul(gradient, gradient)),
  );
  const step = f32x4.div(f32x4.mul(f32x4.splat(rate), gradient), f32x4.sqrt(sums));
  weightsStore(a, b, c, d, f32x4.add(weightsLoad(a, b, c, d), step));
  weightsStore(a + squares, b + squares, c + squares, d + squares, sums);
}
