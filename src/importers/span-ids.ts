// Ids of traces and spans as OpenTelemetry has them: lower-case hex, 32 and 16 digits. Other tools leave out leading zeros, older clients have
// 64-bit trace ids, and a parent of zeros is none.
export function traceHex(id: string): string {
  return id.toLowerCase().padStart(32, "0");
}

export function spanHex(id: string): string {
  return id.toLowerCase().padStart(16, "0");
}

export function parentHex(id: string): string | null {
  return /^0*$/.test(id) ? null : spanHex(id);
}
