// Demo task: one part of a daily report. At its start it reads the table of dimensions and groups it; a call sums the day's
// facts by group and asks the catalog. `merge` joins the parts that its caller sends.
// Environment: MODEL (URI of the dimensions), PART, STORE (base URI).
import { needed, readObject, serveTask } from "./serve.mjs";

/** One row of the dimensions: key (u16), group (u8), and 29 bytes of text. */
const ROW_BYTES = 32;
/** One fact: key (u16), two unused bytes, amount (u32), and 248 bytes of text. */
const FACT_BYTES = 256;
const GROUPS = 24;

const store = needed("STORE");
const part = needed("PART");
const groupOf = groupsByKey(await readObject(needed("MODEL")));

/** Groups by key through a hash map, as a small database would build it. @param {Buffer} bytes */
function groupsByKey(bytes) {
  const groups = new Map();
  for (let at = 0; at + ROW_BYTES <= bytes.length; at += ROW_BYTES) {
    const key = bytes.readUInt16BE(at);
    const known = groups.get(key) ?? { group: 0, names: [] };
    known.group = (known.group + bytes[at + 2]) % GROUPS;
    known.names.push(bytes.toString("latin1", at + 3, at + ROW_BYTES));
    groups.set(key, known);
  }
  return groups;
}

serveTask(async ({ query, body, service }) => {
  const day = query.get("day");
  if (day === null) throw new Error("day is missing");
  const facts = await readObject(`${store}/reports/${encodeURIComponent(day)}/${part}.bin`);
  const sums = new Array(GROUPS).fill(0);
  for (let at = 0; at + FACT_BYTES <= facts.length; at += FACT_BYTES) {
    sums[groupOf.get(facts.readUInt16BE(at))?.group ?? 0] += facts.readUInt32LE(at + 4) / 2 ** 32;
  }
  await service("catalog", "GET", `${part}-${day}`);
  const parts = Array.isArray(body) ? body : [];
  for (const other of parts) {
    for (let group = 0; group < GROUPS; group++) sums[group] += other.sums[group];
  }
  if (parts.length > 0) await service("catalog", "PUT", `report-${day}`, { sums });
  return { day, part, sums };
});
