// Text of other encodings → UTF-8, which everything after it reads. In: a content and its first bytes. UTF-16 is told by its mark, an XML
// document's encoding by its declaration; what is neither JSON nor valid UTF-8 is taken for Windows-1252, which has a letter for every byte.
import type { Content } from "./format.ts";

/** A character of UTF-8 that the head's end cuts, bytes. */
const CUT_BYTES_MAX = 3;

/** The label of an encoding that is not UTF-8; null: it is, or nobody knows. */
export function foreignEncodingOf(head: Uint8Array): string | null {
  if (head[0] === 0xff && head[1] === 0xfe) return "utf-16le";
  if (head[0] === 0xfe && head[1] === 0xff) return "utf-16be";
  // Binary, which is told by its zeros; JSON is UTF-8 by definition.
  if (head.includes(0)) return null;
  const start = new TextDecoder("latin1").decode(head.subarray(0, 200)).trimStart();
  if (/^(\u00ef\u00bb\u00bf)?\s*[{[]/.test(start)) return null;
  const [, declared] = /^<\?xml[^>]*\bencoding\s*=\s*["']([\w.:-]+)["']/.exec(start) ?? [];
  if (declared !== undefined) return isUtf8(declared) ? null : declared;
  return isValidUtf8(head) ? null : "windows-1252";
}

/** The content as UTF-8. Errors: throws a RangeError for an encoding that is not known. */
export function recoded(content: Content, encoding: string): Content {
  const decoder = new TextDecoder(encoding);
  const encoder = new TextEncoder();
  async function* chunks(): AsyncGenerator<Uint8Array> {
    for await (const chunk of content) yield encoder.encode(decoder.decode(chunk, { stream: true }));
    yield encoder.encode(decoder.decode());
  }
  return chunks();
}

function isUtf8(label: string): boolean {
  return /^(utf-?8|us-ascii|ascii)$/i.test(label);
}

function isValidUtf8(head: Uint8Array): boolean {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  for (let cut = 0; cut <= CUT_BYTES_MAX; cut++) {
    try {
      decoder.decode(head.subarray(0, head.length - cut));
      return true;
    } catch {
      // The next try ends before the character that may be cut.
    }
  }
  return false;
}
