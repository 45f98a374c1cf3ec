// Demo task: one step of an order. At its start it reads a table of rules and sorts it by product; a call reads the order's
// basket, prices it by the rules and books it in the ledger. The first step tells which way the order goes.
// Environment: MODEL (URI of the rules), STEP, STORE (base URI).
import { needed, readObject, serveTask } from "./serve.mjs";

/** One rule: product (u32), factor (u32), and 56 bytes of conditions. */
const RULE_BYTES = 64;
/** One line of a basket: product (u32), quantity (u32), and 248 bytes that no step reads. */
const LINE_BYTES = 256;
const PARCEL_GRAMS_MAX = 20_000;

const store = needed("STORE");
const step = needed("STEP");
const rules = parseRules(await readObject(needed("MODEL")));

/** @param {Buffer} bytes */
function parseRules(bytes) {
  const parsed = [];
  for (let at = 0; at + RULE_BYTES <= bytes.length; at += RULE_BYTES) {
    parsed.push({
      product: bytes.readUInt32LE(at),
      factor: bytes.readUInt32LE(at + 4) / 2 ** 32,
      conditions: bytes.toString("hex", at + 8, at + RULE_BYTES),
    });
  }
  return parsed.sort((a, b) => a.product - b.product);
}

/** The rule with the largest product not above this one: rules hold for ranges. */
function ruleFor(product) {
  let low = 0;
  let high = rules.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (rules[middle].product <= product) low = middle + 1;
    else high = middle;
  }
  return rules[low - 1];
}

serveTask(async ({ query, service }) => {
  const orderId = query.get("orderId");
  const grams = Number(query.get("grams"));
  if (orderId === null || !Number.isFinite(grams)) throw new Error("orderId or grams is missing");
  const basket = await readObject(`${store}/orders/${encodeURIComponent(orderId)}/${step}.bin`);
  let total = 0;
  for (let at = 0; at + LINE_BYTES <= basket.length; at += LINE_BYTES) {
    total += (ruleFor(basket.readUInt32LE(at))?.factor ?? 1) * (basket.readUInt32LE(at + 4) / 2 ** 32);
  }
  const before = await service("ledger", "GET", orderId);
  await service("ledger", "PUT", orderId, { ...before, [step]: total });
  return { orderId, step, total, route: grams > PARCEL_GRAMS_MAX ? "freight" : "parcel" };
});
