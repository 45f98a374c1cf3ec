// JSON documents larger than memory. In: chunks of one document, of several after each other, or of lines. Out: the elements of
// the arrays under the asked keys, `a` or `a.b.c` from the top, (or of a top-level array) one by one, then what is left of the document.
// Only brackets and strings are followed here; JSON.parse does the parsing, element by element.
//
// A writer that was killed leaves half a record, and the next one follows it. So a document is given up where it cannot go on: at the
// end of a line inside a string, at a bracket that closes no other, and at one where no value may begin, which begins the next document.
import type { Content } from "./format.ts";

/** An element longer than this is not one record, bytes of text: the reader would be out of memory. */
const ELEMENT_CHARS_MAX = 256 * 2 ** 20;

type JsonPart =
  /** `key` null: a document, without the arrays that were given element by element. */
  | { key: string | null; value: unknown }
  /** `isDocument`: no more of it follows; else one element. */
  | { malformed: string; isDocument: boolean };

const MARKS = /["{}[\]\n]/g;
const STRING_MARKS = /["\\\n]/g;
const SPACE_LAST = 0x20;
/** Commas and spaces between values. */
const BETWEEN = /^[\s,]+/;

/** Walks over documents. One that is not JSON is told, and the next one is looked for. */
export async function* jsonParts(content: Content, keys: readonly string[]): AsyncGenerator<JsonPart> {
  const scanner = new Scanner(keys);
  const decoder = new TextDecoder();
  for await (const chunk of content) yield* scanner.push(decoder.decode(chunk, { stream: true }));
  yield* scanner.push(decoder.decode());
  yield* scanner.end();
}

class Scanner {
  readonly #keys: ReadonlySet<string>;
  /** The chunk, and from where on nothing is taken of it yet. */
  #text = "";
  #from = 0;
  /** The last character of earlier chunks that is no space. */
  #lastMark = "";
  /** Brackets that are open. */
  readonly #open: string[] = [];
  #inString = false;
  #skipNext = false;
  /** Text of the document, without streamed elements. */
  #document = "";
  /** Text of the element that is being read; null outside of streamed arrays. */
  #element: string | null = null;
  /** Key of the array that is being streamed; "" for a top-level array. */
  #streaming: string | null = null;
  /** How many brackets are open inside the streamed array. */
  #streamDepth = 0;
  /** The last whole string at each depth, as deep as keys are asked: a key, if an array or object follows. */
  readonly #lastStrings: string[] = [];
  readonly #keyDepth: number;
  /** A string that goes on from an earlier chunk, and where it begins in this one. */
  #string = "";
  #stringFrom = 0;

  constructor(keys: readonly string[]) {
    this.#keys = new Set(keys);
    this.#keyDepth = Math.max(1, ...keys.map((key) => key.split(".").length));
  }

  *push(text: string): Generator<JsonPart> {
    if (text === "") return;
    this.#text = text;
    this.#from = 0;
    let at = this.#skipNext ? 1 : 0;
    this.#skipNext = false;
    for (;;) {
      const marks = this.#inString ? STRING_MARKS : MARKS;
      marks.lastIndex = at;
      const match = marks.exec(text);
      if (match === null) break;
      const [mark] = match;
      const { index } = match;
      at = index + 1;
      if (mark === '"') this.#quote(index);
      else if (mark === "\\") {
        if (at < text.length) at++;
        else this.#skipNext = true;
      } else if (mark === "\n") {
        if (this.#inString) yield this.#giveUp("a line ends inside a string", at);
        else if (this.#open.length === 0) yield* this.#closeDocument(at);
      } else if (mark === "{" || mark === "[") {
        if (!this.#mayBegin(index)) yield this.#giveUp("a record breaks off before the next one", index);
        this.#begin(mark, index);
      } else if (this.#open.pop() === (mark === "}" ? "{" : "[")) yield* this.#end(index);
      else yield this.#giveUp("a bracket closes nothing", at);
    }
    if (this.#inString && this.#open.length <= this.#keyDepth) this.#string += text.slice(this.#stringFrom);
    this.#stringFrom = 0;
    this.#take(text.length);
    this.#lastMark = this.#markBefore(text.length);
  }

  *end(): Generator<JsonPart> {
    this.#text = "";
    this.#from = 0;
    if (this.#open.length > 0) yield { malformed: "the document ends in the middle", isDocument: true };
    else yield* this.#closeDocument(0);
  }

  #quote(index: number): void {
    this.#inString = !this.#inString;
    if (this.#inString) this.#stringFrom = index + 1;
    else if (this.#open.length <= this.#keyDepth) {
      this.#lastStrings[this.#open.length] = this.#string + this.#text.slice(this.#stringFrom, index);
    }
    this.#string = "";
  }

  /** Whether a value may stand here: after the colon of an object, or first or after a comma in an array. */
  #mayBegin(index: number): boolean {
    const inside = this.#open.at(-1);
    if (inside === undefined) return true;
    const before = this.#markBefore(index);
    return inside === "{" ? before === ":" : before === "[" || before === ",";
  }

  #markBefore(index: number): string {
    for (let at = index - 1; at >= 0; at--) if (this.#text.charCodeAt(at) > SPACE_LAST) return this.#text[at]!;
    return this.#lastMark;
  }

  #begin(mark: string, index: number): void {
    const isStreamed = mark === "[" && this.#streaming === null && this.#isAsked(index);
    this.#open.push(mark);
    if (!isStreamed) return;
    this.#take(index + 1);
    this.#streamDepth = this.#open.length;
    this.#streaming = this.#streamDepth === 1 ? "" : this.#path(this.#streamDepth - 1);
    this.#element = "";
  }

  /** Of the array that begins so deep. */
  #path(depth: number): string {
    return depth === 1 ? this.#lastStrings[1]! : this.#lastStrings.slice(1, depth + 1).join(".");
  }

  #isAsked(index: number): boolean {
    const depth = this.#open.length;
    if (depth > this.#keyDepth) return false;
    if (depth > 0) return this.#keys.has(this.#path(depth));
    if (this.#keys.size === 0) return false;
    return (this.#document + this.#text.slice(this.#from, index)).replace(BETWEEN, "") === "";
  }

  *#end(index: number): Generator<JsonPart> {
    const depth = this.#open.length;
    if (this.#streaming !== null && depth === this.#streamDepth) yield* this.#closeElement(index + 1);
    else if (this.#streaming !== null && depth < this.#streamDepth) {
      yield* this.#closeElement(index);
      this.#streaming = null;
      this.#element = null;
    }
    if (depth === 0) yield* this.#closeDocument(index + 1);
  }

  /** The chunk up to `until` belongs to what is being read. */
  #take(until: number): void {
    const text = this.#text.slice(this.#from, until);
    this.#from = until;
    if (this.#element !== null) this.#element += text;
    else this.#document += text;
    if ((this.#element ?? this.#document).length > ELEMENT_CHARS_MAX) {
      throw new Error(`one JSON value is longer than ${ELEMENT_CHARS_MAX} characters`);
    }
  }

  *#closeElement(until: number): Generator<JsonPart> {
    this.#take(until);
    const text = this.#element!.replace(BETWEEN, "").trim();
    this.#element = "";
    if (text !== "") yield* parsed(text, this.#streaming!);
  }

  *#closeDocument(until: number): Generator<JsonPart> {
    this.#take(until);
    const text = this.#document.replace(BETWEEN, "").trim();
    this.#document = "";
    this.#lastStrings.length = 0;
    // "[]": an array whose elements have all been given.
    if (text !== "" && text !== "[]") yield* parsed(text, null);
  }

  /** Drops the document; the next one begins at `next`. */
  #giveUp(reason: string, next: number): JsonPart {
    this.#open.length = 0;
    this.#inString = false;
    this.#document = "";
    this.#element = null;
    this.#streaming = null;
    this.#lastStrings.length = 0;
    this.#string = "";
    this.#from = next;
    return { malformed: reason, isDocument: true };
  }
}

function* parsed(text: string, key: string | null): Generator<JsonPart> {
  try {
    yield { key, value: JSON.parse(text) };
    return;
  } catch (error) {
    const among = key === null ? null : valuesOf(text);
    const isDocument = key === null;
    if (among === null) yield { malformed: error instanceof Error ? reasonOf(error.message) : "not JSON", isDocument };
    else for (const value of among) yield { key, value };
  }
}

/** Of an element with numbers, strings or nulls before it, which no bracket ended. */
function valuesOf(text: string): unknown[] | null {
  try {
    return JSON.parse(`[${text}]`);
  } catch {
    return null;
  }
}

/** Without where it was and what stood there: reasons are counted. */
function reasonOf(message: string): string {
  return message.replace(/( in JSON)? at position .*$|, (\.\.\.)?".*$/s, "");
}
