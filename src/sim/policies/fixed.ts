// Fixed keep-alive: every instance is held for the same time after each use, nothing is started ahead.
// What OpenWhisk (10 min) and most platforms do; the baseline of E. Shahrad et al., "Serverless in the Wild", USENIX ATC 2020,
// https://www.usenix.org/conference/atc20/presentation/shahrad. Dial: seconds.
import type { Policy } from "../world.ts";

export function fixed(seconds: number): Policy {
  return { name: "fixed", dial: seconds, keepAliveMs: () => seconds * 1000 };
}
