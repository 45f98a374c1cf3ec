// Demo task: one part of a daily report. At its start it reads the table of dimensions and groups it; a call sums the day's
// facts by group and reads the names from the catalog. `merge` joins the parts that its callers send.
// Environment: MODEL (URI of the dimensions), PART, STORE (base URI).
import { needed, readObject, serveTask } from "./serve.ts";

/** One fact: key (u16), two unused bytes, amount (u32), and 56 bytes of text. */
const FACT_BYTES = 64;
const GROUPS = 24;

const store = needed("STORE");
const part = needed("PART");
const groupOf = groupsByKey(await readObject(needed("MODEL")));

/** Two-byte keys with a group each, through a hash map as a small database would build it. */
function groupsByKey(bytes: Uint8Array): Map<string, number> {
  const groups = new Map<string, number>();
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    const key = Buffer.from(bytes.subarray(at, at + 2)).toString("hex");
    groups.set(key, ((groups.get(key) ?? 0) + bytes[at + 2]!) % GROUPS);
  }
  return groups;
}

serveTask(async ({ query, body, service }) => {
  const day = query.get("day");
  if (day === null) throw new Error("day is missing");
  const facts = await readObject(`${store}/reports/${encodeURIComponent(day)}/${part}.bin`);
  const view = new DataView(facts.buffer, facts.byteOffset, facts.byteLength);
  const sums = new Array<number>(GROUPS).fill(0);
  for (let at = 0; at + FACT_BYTES <= facts.length; at += FACT_BYTES) {
    const key = view.getUint16(at, false).toString(16).padStart(4, "0");
    sums[groupOf.get(key) ?? 0]! += view.getUint32(at + 4, true) / 2 ** 32;
  }
  await service("catalog", "GET", `${part}-${day}`);
  const parts = Array.isArray(body) ? (body as { sums: number[] }[]) : [];
  for (const other of parts)
    other.sums.forEach((sum, group) => {
      sums[group]! += sum;
    });
  if (parts.length > 0) await service("catalog", "PUT", `report-${day}`, { sums });
  return { day, part, sums };
});
