// One byte range of an object, as a task asks for it (RFC 9110 section 14). In: the `Range` header and the object's size. Out:
// first and last byte; "unsatisfiable"; or null: the whole object, which is the right answer to what is not understood.
interface ByteRange {
  first: number;
  last: number;
}

export function rangeOf(header: string | undefined, bytes: number): ByteRange | "unsatisfiable" | null {
  // Several ranges would be answered in parts of their own; the whole is allowed instead.
  const [, from = "", to = ""] = /^bytes=\s*(\d*)\s*-\s*(\d*)\s*$/i.exec(header ?? "") ?? [];
  if (from === "" && to === "") return null;
  if (from === "") {
    // The last so many bytes.
    const count = Math.min(Number(to), bytes);
    return count === 0 ? "unsatisfiable" : { first: bytes - count, last: bytes - 1 };
  }
  const first = Number(from);
  const last = to === "" ? bytes - 1 : Number(to);
  if (last < first && to !== "") return null;
  return first >= bytes ? "unsatisfiable" : { first, last: Math.min(last, bytes - 1) };
}
