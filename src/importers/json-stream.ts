// JSON documents larger than memory. In: chunks of one document, of several after each other, or of lines. Out: the elements of
// the arrays under the asked top-level keys (or of a top-level array) one by one, then what is left of the document. Elements are objects or
// arrays, as records are; a bare number or string between them makes its neighbour malformed.
// Only brackets and strings are followed here; JSON.parse does the parsing, element by element.
import type { Content } from "./format.ts";

/** An element longer than this is not one record, bytes of text: the reader would be out of memory. */
const ELEMENT_CHARS_MAX = 256 * 2 ** 20;

type JsonPart =
  /** `key` null: a document, without the arrays that were given element by element. */
  { key: string | null; value: unknown } | { malformed: string };

const MARKS = /["{}[\]\\\n]/g;

/** Walks over documents. A document that is not JSON is told and ends at its line's end, if anywhere. */
export async function* jsonParts(content: Content, keys: readonly string[]): AsyncGenerator<JsonPart> {
  const scanner = new Scanner(keys);
  const decoder = new TextDecoder();
  for await (const chunk of content) yield* scanner.push(decoder.decode(chunk, { stream: true }));
  yield* scanner.push(decoder.decode());
  yield* scanner.end();
}

class Scanner {
  readonly #keys: ReadonlySet<string>;
  #depth = 0;
  #inString = false;
  #skipNext = false;
  /** Text of the document, without streamed elements. */
  #document = "";
  /** Text of the element that is being read; null outside of streamed arrays. */
  #element: string | null = null;
  /** Key of the array that is being streamed; "" for a top-level array. */
  #streaming: string | null = null;
  /** Depth inside the streamed array. */
  #streamDepth = 0;
  /** The last whole string at depth 1: a key, if an array follows. */
  #lastString = "";
  /** A string that goes on from an earlier chunk, and where it begins in this one. */
  #string = "";
  #stringFrom = 0;
  #isFirst = true;

  constructor(keys: readonly string[]) {
    this.#keys = new Set(keys);
  }

  *push(chunk: string): Generator<JsonPart> {
    const text = this.#isFirst ? chunk.replace(/^\ufeff/, "") : chunk;
    if (chunk !== "") this.#isFirst = false;
    let from = 0;
    MARKS.lastIndex = 0;
    let at = this.#skipNext && text.length > 0 ? 1 : 0;
    if (at === 1) this.#skipNext = false;
    for (;;) {
      MARKS.lastIndex = at;
      const match = MARKS.exec(text);
      if (match === null) break;
      const mark = match[0];
      const index = match.index;
      at = index + 1;
      if (this.#inString) {
        if (mark === "\\") {
          if (at < text.length) at++;
          else this.#skipNext = true;
        } else if (mark === '"') {
          this.#inString = false;
          if (this.#depth === 1) this.#lastString = this.#string + text.slice(this.#stringFrom, index);
          this.#string = "";
          this.#stringFrom = 0;
        }
        continue;
      }
      if (mark === '"') {
        this.#inString = true;
        this.#stringFrom = at;
        this.#string = "";
      } else if (mark === "{" || mark === "[") {
        const isStreamed =
          mark === "[" &&
          this.#streaming === null &&
          ((this.#depth === 1 && this.#keys.has(this.#lastString)) ||
            (this.#depth === 0 &&
              this.#keys.size > 0 &&
              this.#document.trim() + text.slice(from, index).trim() === ""));
        this.#depth++;
        if (isStreamed) {
          this.#take(text.slice(from, at));
          from = at;
          this.#streaming = this.#depth === 1 ? "" : this.#lastString;
          this.#streamDepth = this.#depth;
          this.#element = "";
        }
      } else if (mark === "}" || mark === "]") {
        this.#depth--;
        if (this.#streaming !== null && this.#depth === this.#streamDepth) {
          this.#take(text.slice(from, at));
          from = at;
          yield* this.#closeElement();
        } else if (this.#streaming !== null && this.#depth < this.#streamDepth) {
          this.#take(text.slice(from, index));
          from = index;
          yield* this.#closeElement();
          this.#streaming = null;
          this.#element = null;
        }
        if (this.#depth <= 0) {
          this.#depth = 0;
          this.#take(text.slice(from, at));
          from = at;
          yield* this.#closeDocument();
        }
      } else if (mark === "\n" && this.#depth === 0) {
        this.#take(text.slice(from, at));
        from = at;
        yield* this.#closeDocument();
      }
    }
    if (this.#inString && this.#depth === 1) this.#string += text.slice(this.#stringFrom);
    this.#stringFrom = 0;
    this.#take(text.slice(from));
  }

  *end(): Generator<JsonPart> {
    if (this.#depth > 0) {
      yield { malformed: "the document ends in the middle" };
      return;
    }
    yield* this.#closeDocument();
  }

  #take(text: string): void {
    if (this.#element !== null) this.#element += text;
    else this.#document += text;
    if ((this.#element ?? this.#document).length > ELEMENT_CHARS_MAX) {
      throw new Error(`one JSON value is longer than ${ELEMENT_CHARS_MAX} characters`);
    }
  }

  *#closeElement(): Generator<JsonPart> {
    const text = this.#element!.replace(/^[\s,]+/, "").trim();
    this.#element = "";
    if (text === "") return;
    const key = this.#streaming!;
    yield parsed(text, key);
  }

  *#closeDocument(): Generator<JsonPart> {
    const text = this.#document.trim();
    this.#document = "";
    this.#lastString = "";
    // Commas between documents, and an array whose elements have all been given.
    if (text === "" || text === "," || text === "[]") return;
    yield parsed(text, null);
  }
}

function parsed(text: string, key: string | null): JsonPart {
  try {
    return { key, value: JSON.parse(text) };
  } catch (error) {
    return { malformed: error instanceof Error ? error.message : "not JSON" };
  }
}
