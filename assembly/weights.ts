// Mixing weights that choose their own step. In: a gradient for each of four mixers. Out: their weights, moved.
// A weight is 8 bytes: value f32, sum of squared gradients f32. Step = rate · g / √(sum of g²): large while a weight is young,
// small when it is old, which did better than any fixed rate on every log.
// Source: AdaGrad (Duchi, Hazan, Singer, JMLR 2011), with a ceiling on the sum so that an old model still follows a change.

export const WEIGHT_BYTES: i32 = 8;
/** Sum that a new weight starts from: keeps its first steps near rate / √20. */
const SQUARES_INITIAL: f32 = 20;
const SQUARES_MAX: f32 = 1e5;

export function weightsReset(from: usize, to: usize, value: f32): void {
  for (let at = from; at < to; at += <usize>WEIGHT_BYTES) {
    store<f32>(at, value);
    store<f32>(at, SQUARES_INITIAL, 4);
  }
}

/** The weights at four addresses, as lanes. */
// @ts-ignore: decorator
@inline
export function weightsLoad(a: usize, b: usize, c: usize, d: usize): v128 {
  const ab = f32x4.replace_lane(f32x4.splat(load<f32>(a)), 1, load<f32>(b));
  return f32x4.replace_lane(f32x4.replace_lane(ab, 2, load<f32>(c)), 3, load<f32>(d));
}

/** Moves the weights at four addresses along their gradients. */
// @ts-ignore: decorator
@inline
export function weightsLearn(a: usize, b: usize, c: usize, d: usize, gradient: v128, rate: f32): void {
  const squares = f32x4.min(
    f32x4.add(weightsLoad(a + 4, b + 4, c + 4, d + 4), f32x4.mul(gradient, gradient)),
    f32x4.splat(SQUARES_MAX),
  );
  const step = f32x4.div(f32x4.mul(f32x4.splat(rate), gradient), f32x4.sqrt(squares));
  const values = f32x4.add(weightsLoad(a, b, c, d), step);
  store<f32>(a, f32x4.extract_lane(values, 0));
  store<f32>(b, f32x4.extract_lane(values, 1));
  store<f32>(c, f32x4.extract_lane(values, 2));
  store<f32>(d, f32x4.extract_lane(values, 3));
  store<f32>(a, f32x4.extract_lane(squares, 0), 4);
  store<f32>(b, f32x4.extract_lane(squares, 1), 4);
  store<f32>(c, f32x4.extract_lane(squares, 2), 4);
  store<f32>(d, f32x4.extract_lane(squares, 3), 4);
}
