// Ids of traces and spans as OpenTelemetry has them: lower-case hex, 32 and 16 digits. Other tools leave out leading zeros, older clients have
// 64-bit trace ids, and a parent of zeros is none. Ids of other kinds (UUIDs, base64, "order-17") give hex of their own, each id always the same:
// the API takes no others, and all that such a log holds would be refused.
import { createHash } from "node:crypto";

const TRACE_DIGITS = 32;
const SPAN_DIGITS = 16;
const HEX = /^[0-9a-f]+$/i;
const ZEROS = /^0*$/;

/** A trace numbered 0 is one. */
export function traceHex(id: string): string {
  return hexOf(ZEROS.test(id) ? `trace ${id}` : id, TRACE_DIGITS);
}

export function spanHex(id: string): string {
  return hexOf(id, SPAN_DIGITS);
}

export function parentHex(id: string): string | null {
  return ZEROS.test(id) ? null : spanHex(id);
}

/** Digests keep the case of an id, which tells base64 apart. */
function hexOf(id: string, digits: number): string {
  if (HEX.test(id) && id.length <= digits) return id.toLowerCase().padStart(digits, "0");
  return createHash("sha256").update(id).digest("hex").slice(0, digits);
}
