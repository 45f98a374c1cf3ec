// The short form of the crash test: a handful of kills, the graph compared. `node test/soak/crash.ts 200` is the long one, with D1's rows.
import { expect, test } from "vitest";
import { crash } from "./crash.ts";

const SEED = Number(process.env.FORECHAIN_TEST_SEED ?? 20_261_125);
const KILLS = 4;

test(`killed ${KILLS} times, nothing accepted is lost or counted twice (seed ${SEED})`, {
  timeout: 180_000,
}, async () => {
  expect(await crash(KILLS, SEED, false, () => {})).toMatchObject({ kills: KILLS, graphEqual: true });
});
